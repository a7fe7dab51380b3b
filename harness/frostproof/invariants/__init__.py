"""Invariants, which must hold in every trial: each file has one, with its judge and its texts."""
