"""frostproof: a property-based verification harness for freezing layers in PyTorch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostproof.architecture import Architecture, Input
    from frostproof.case import Case, Group
    from frostproof.check import Report, check_optimizer
    from frostproof.decorator import parametrize
    from frostproof.discovery import subjects
    from frostproof.errors import CaseError, FrostproofError, UsageError
    from frostproof.registry import register
    from frostproof.subject import Subject

_HOMES = {
    "Architecture": "architecture",
    "Input": "architecture",
    "Case": "case",
    "Group": "case",
    "Report": "check",
    "check_optimizer": "check",
    "parametrize": "decorator",
    "subjects": "discovery",
    "register": "registry",
    "CaseError": "errors",
    "FrostproofError": "errors",
    "UsageError": "errors",
    "Subject": "subject",
}

__all__ = [
    "Architecture",
    "Case",
    "CaseError",
    "FrostproofError",
    "Group",
    "Input",
    "Report",
    "Subject",
    "UsageError",
    "check_optimizer",
    "parametrize",
    "register",
    "subjects",
]


def __getattr__(name: str) -> Any:
    # Names are handed on when asked for: the pytest plugin imports this package in every pytest run.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"frostproof.{_HOMES[name]}"), name)
