"""Counterexamples as scripts of their own, that need torch and the library under test alone."""

from frostproof.reproducer.execution import Execution, reproduces
from frostproof.reproducer.naming import Unprintable
from frostproof.reproducer.script import Fleeting, script

__all__ = ["Execution", "Fleeting", "Unprintable", "reproduces", "script"]
