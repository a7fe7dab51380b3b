"""Verdicts: the search for violations, their explanations, and the script that shows each."""
