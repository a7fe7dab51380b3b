"""Invariants: what must hold in every trial; each file has one, with its judge, its messages and its assertions."""
