"""Counterexamples as scripts that need only torch and the library under test; running them."""
