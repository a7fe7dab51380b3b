"""Targets: what a user names, `module:Name`, resolved to subjects that are not probed yet."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from types import ModuleType

from torch.optim import Optimizer

from frostproof.errors import UsageError, did_you_mean
from frostproof.optimizers import registry
from frostproof.optimizers.discovery import subjects
from frostproof.process.device import is_accelerator
from frostproof.spec.imports import import_for_target, import_named, unknown_name
from frostproof.spec.setting import BY_NAME, EAGER, Setting
from frostproof.spec.subject import Subject

ONLY_ON = {"capturable": "accelerators", "differentiable": "cpu"}
"""Variants that are tested on some devices only.

Captured graphs exist on accelerators only; a differentiable optimizer is the same on every device.
"""


def exists_on(subject: Subject, device: str) -> bool:
    """Whether this implementation of an optimizer is verified on `device`."""
    where = _only_on(subject)
    return where is None or where == device or (where == "accelerators" and is_accelerator(device))


def _only_on(subject: Subject) -> str | None:
    """Where alone this implementation is verified; None if it is verified everywhere."""
    enabled = (argument for argument, value in subject.arguments.items() if value)
    return next((ONLY_ON[argument] for argument in enabled if argument in ONLY_ON), None)


def nothing_to_run(found: Iterable[Subject], devices: Sequence[str]) -> list[str]:
    """One line for each target of which nothing is verified on any of these devices."""
    found = list(found)
    runs = {each.target for each in found for device in devices if exists_on(each, device)}
    return [
        f"{each.target}: nothing to run, because this implementation is verified on "
        f"{_only_on(each)} only, and the devices are {', '.join(devices)}: name another device"
        for each in {each.target: each for each in found if each.target not in runs}.values()
    ]


def resolve(targets: Iterable[str]) -> list[Subject]:
    """The subjects of `targets`, one per implementation. Raises UsageError, one line.

    A Subject that is named takes the place of its own target in a `module:*` beside it.
    """
    found = [(target, _subjects_of(target)) for target in targets]
    # The modules of all targets are imported by now.
    stated = {name: each for target, _ in found for name, each in _stated_at(target).items()}
    taken = {each.target for each in stated.values()} - stated.keys()
    return [
        subject
        for target, members in found
        for subject in members
        if not (target.endswith(":*") and subject.target in taken)
    ]


def _stated_at(target: str) -> dict[str, Subject]:
    """The Subjects that a target names, one or all of a module, each by `module:NAME`."""
    module_name, _, name = target.partition(":")
    module = sys.modules[module_name]
    names = _stated(module) if name == "*" else [name]
    found = {f"{module_name}:{each}": getattr(module, each, None) for each in names}
    return {name: each for name, each in found.items() if isinstance(each, Subject)}


def left_out(targets: Iterable[str]) -> Iterator[str]:
    """One line for each class of a `module:*` that steps like an optimizer, and is not of torch's.

    Their modules are imported.
    """
    for module_name in (each.removesuffix(":*") for each in targets if each.endswith(":*")):
        for found in vars(sys.modules[module_name]).values():
            if not isinstance(found, type) or issubclass(found, Optimizer):
                continue
            own = f"{found.__module__}.".startswith(f"{module_name}.")
            if own and hasattr(found, "step") and hasattr(found, "zero_grad"):
                yield (
                    f"{module_name}:{found.__name__} is left out, as it is no "
                    "torch.optim.Optimizer: name a function of params that builds it"
                )


@cache
def resolve_setting(name: str) -> Setting:
    """The setting with this name, or the one at `module:NAME`. Raises UsageError, one line."""
    if name in BY_NAME:
        return BY_NAME[name]
    if ":" not in name:
        raise UsageError(
            f"unknown setting {name!r}: choose one of {', '.join(BY_NAME)}, all, "
            f"or write module:NAME.{did_you_mean(name, [*BY_NAME])}"
        )
    _, found = import_named(name, "setting", "a frostproof.Setting")
    if not isinstance(found, Setting):
        raise UsageError(f"{name!r} is {found!r:.80}: name a frostproof.Setting")
    return replace(found, name=name)


def resolve_settings(names: Iterable[str]) -> tuple[Setting, ...]:
    """The settings with these names, of which `all` means each that has one; by default eager."""
    names = [names] if isinstance(names, str) else names
    wanted = [each for name in names for each in (BY_NAME if name == "all" else (name,))]
    return tuple(map(resolve_setting, dict.fromkeys(wanted or (EAGER.name,))))


def torch_optimizers() -> list[Subject]:
    """The subjects of every optimizer class that torch.optim exports."""
    return resolve(["torch.optim:*"])


def _subjects_of(target: str) -> list[Subject]:
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(
            f"malformed target {target!r}: write module:Name, "
            "or 'module:*' for every optimizer class of the module"
        )
    module = import_for_target(module_name, target)
    if name == "*":
        stated = _stated(module)
        members = [*_exported(module, imported=not stated), *stated]
        if not members:
            raise UsageError(
                f"{module_name!r} exports no optimizer class, and has no Subject: name one as "
                f"{module_name}:Name"
            )
        found = {f"{module_name}:{each}": getattr(module, each) for each in members}
        return [
            subject
            for each, optimizer in found.items()
            for subject in registry.registered_subjects(each) or subjects(optimizer, each)
        ]
    if not hasattr(module, name):
        names = _exported(module, imported=True)
        raise unknown_name("optimizer", target, module, names)
    return registry.registered_subjects(target) or subjects(getattr(module, name), target)


def _stated(module: ModuleType) -> list[str]:
    """The names of the Subjects of a module, sorted."""
    return sorted(name for name, value in vars(module).items() if isinstance(value, Subject))


def _exported(module: ModuleType, *, imported: bool) -> list[str]:
    """The names of the optimizer classes that the module exports, sorted.

    `imported`: also those of its package that it imports, which a module of Subjects does to state
    them.
    """
    package = module.__name__.partition(".")[0] if imported else module.__name__
    public = getattr(module, "__all__", None) or [
        name for name in vars(module) if not name.startswith("_")
    ]
    own: dict[type, str] = {}
    for name in public:
        found = getattr(module, name, None)
        if (
            isinstance(found, type)
            and issubclass(found, Optimizer)
            and found is not Optimizer
            and f"{found.__module__}.".startswith(f"{package}.")
        ):
            own.setdefault(found, name)
    return sorted(own.values())
