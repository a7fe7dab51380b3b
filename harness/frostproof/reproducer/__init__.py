"""Counterexamples as scripts of their own, that need torch and the library under test alone."""

from frostproof.naming import Unprintable
from frostproof.reproducer.execution import Execution, reproduces
from frostproof.reproducer.script import script

__all__ = ["Execution", "Unprintable", "reproduces", "script"]
