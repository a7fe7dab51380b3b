"""Verdicts: the search over cases, what is explained away, and the proof of every violation by its script."""
