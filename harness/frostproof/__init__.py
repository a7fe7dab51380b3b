"""frostproof: a property-based verification harness for freezing layers in PyTorch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostproof.applications.watching.watch import watch
    from frostproof.doors.parametrize import parametrize
    from frostproof.doors.python import Report, check_optimizer
    from frostproof.errors import CaseError, FrostproofError, UsageError
    from frostproof.optimizers.discovery import subjects
    from frostproof.optimizers.registry import register
    from frostproof.spec.architecture import Architecture, Input
    from frostproof.spec.case import Case, Group
    from frostproof.spec.setting import Setting
    from frostproof.spec.subject import Subject

_HOMES = {
    "LightningWatch": "doors.lightning",
    "TrainerWatch": "doors.transformers",
    "Architecture": "spec.architecture",
    "Input": "spec.architecture",
    "Case": "spec.case",
    "Group": "spec.case",
    "Report": "doors.python",
    "check_optimizer": "doors.python",
    "parametrize": "doors.parametrize",
    "subjects": "optimizers.discovery",
    "register": "optimizers.registry",
    "CaseError": "errors",
    "FrostproofError": "errors",
    "UsageError": "errors",
    "Setting": "spec.setting",
    "Subject": "spec.subject",
    "watch": "applications.watching.watch",
}

__all__ = [
    "Architecture",
    "Case",
    "CaseError",
    "FrostproofError",
    "Group",
    "Input",
    "Report",
    "Setting",
    "Subject",
    "UsageError",
    "check_optimizer",
    "parametrize",
    "register",
    "subjects",
    "watch",
]


def __getattr__(name: str) -> Any:
    # Names are imported on demand, as the pytest plugin imports this package in every run.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"frostproof.{_HOMES[name]}"), name)
