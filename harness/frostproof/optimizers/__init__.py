"""Optimizers under test: found by their targets, probed, and their known failures."""
