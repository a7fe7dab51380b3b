"""How cases are drawn: networks, masks, programs and hyperparameters."""
