"""Optimizers under test: how a target is found, built, stepped and probed, and which failures of torch are known."""
