"""What people ask of one model and one mask, each statement tried on the model."""
