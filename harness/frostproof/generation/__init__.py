"""How a case is drawn: networks, masks, programs and hyperparameters as Hypothesis strategies."""
