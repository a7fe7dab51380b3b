"""Ways to build and step an optimizer, the likeliest first, and what a built one shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from inspect import signature
from typing import Any

from frostproof.errors import FROM_USERS, UnusableError
from frostproof.optimizers.discovery import (
    BASE,
    IMPLEMENTATIONS,
    closure_of,
    has_modes,
)
from frostproof.optimizers.guesses import in_place_of_none
from frostproof.optimizers.nothing_frozen import small_case, unfrozen_training
from frostproof.spec.subject import Closure, ParameterKind, Space, Subject


def candidates(subject: Subject, space: Space) -> Iterator[Subject]:
    """All ways to try: with nothing added, then with values for arguments whose default is None.

    Two lists are followed by one. The same follows in the subject's other dtypes. `space` has
    values for arguments whose defaults do not work. No way changes a field that was stated.
    """
    stated = [name for name in subject.stated if name in _VARIED]
    for each in _ways(subject, space):
        if all(getattr(each, name) == getattr(subject, name) for name in stated):
            yield each


_VARIED = (
    "takes",
    "lists",
    "base",
    "keys",
    "groups",
    "per_parameter",
    "closure",
    "backward",
    "parameters",
)
"""Fields in which ways to use an optimizer differ."""


def _ways(subject: Subject, space: Space) -> Iterator[Subject]:
    bases = [subject]
    if subject.discovered:
        spared = {**IMPLEMENTATIONS, **subject.arguments}
        values = in_place_of_none(subject.factory, spared)
        bases += [replace(subject, arguments={**each, **subject.arguments}) for each in values]
    if subject.discovered and subject.lists:  # one of the lists may be optional, or another thing
        bases += [
            replace(each, takes="parameters", lists=(), groups=True, per_parameter=True)
            for each in bases
        ]
    for number in range(len(subject.dtypes)):
        for base in bases:
            yield from _in_one_dtype(replace(base, dtypes=base.dtypes[number:]), space)


def _in_one_dtype(subject: Subject, space: Space) -> Iterator[Subject]:
    """The subject as stated; for a discovered one, also other ways and other arguments."""
    closures: list[Closure] = [subject.closure]
    if subject.closure == "optional":
        closures.append("required")
    if subject.discovered and closures[-1] == "required":
        closures.append("with-arguments")
    stated = [replace(subject, closure=closure) for closure in closures]
    kinds: tuple[ParameterKind, ...] = (subject.parameters,)
    if subject.parameters == "any":
        # With two lists, parameters of one kind alone would leave a list empty.
        two_lists = subject.takes == "two-lists"
        kinds = ("any", "up-to-2d") if two_lists else ("any", "up-to-2d", "matrices", "sparse")
    yield from (replace(each, parameters=kind) for kind in kinds for each in stated)
    if not subject.discovered:
        return
    for way in _OTHER_WAYS if subject.takes == "parameters" else ():
        if "closure" not in way or subject.closure != "never":
            yield from (replace(subject, parameters=kind, **way) for kind in kinds[:3])
    for options in (
        [each for choice in space for each in choice] if isinstance(space, tuple) else ()
    ):
        yield replace(subject, arguments={**subject.arguments, **dict(options)})


def use_muon(name: str, shape: tuple[int, ...]) -> dict[str, bool]:
    """`use_muon` for matrices, as implementations of Muon ask for it in each group."""
    return {"use_muon": len(shape) == 2}


_OTHER_WAYS: tuple[dict[str, Any], ...] = (
    {"closure": "after-backward"},
    {"closure": "required", "backward": "in-step"},
    {"closure": "loss-alone"},
    {"backward": "create-graph"},
    {"takes": "parameter-list", "groups": False},
    {"takes": "named-parameters"},
    {"keys": use_muon},
    {"takes": "optimizer", "base": BASE, "per_parameter": False},
    {"takes": "model", "groups": False, "per_parameter": False},
)


def as_built(subject: Subject, device: str) -> Subject:
    """The subject with what the optimizer that it builds shows.

    Nothing else shows it of an optimizer behind a function. If building raises, the subject is
    returned as it is, and its trial reports the exception. Raises UnusableError for what is no
    optimizer.
    """
    case = small_case(subject, subject.dtypes[0])
    try:
        with unfrozen_training(case, replace(subject, modes=False), device) as training:
            optimizer, parameters = training.optimizer, [*training.model.parameters()]
    except FROM_USERS:
        return subject
    if not hasattr(optimizer, "param_groups"):
        raise UnusableError("it has no param_groups: return a torch.optim.Optimizer")
    found: dict[str, Any] = {"modes": has_modes(optimizer) and _can_switch_modes(optimizer)}
    found["hooks"] = any(p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters)
    closure = closure_of(optimizer)
    if subject.closure == "optional" and (subject.discovered or closure != "after-backward"):
        found["closure"] = closure
    if subject.discovered and subject.backward == "plain" and hasattr(optimizer, "fused_backward"):
        found["backward"] = subject.stated.get("backward", "fused")
    if "set_to_none" not in subject.unable and not _takes_set_to_none(optimizer):
        found["unable"] = (*subject.unable, "set_to_none")
    return replace(subject, **found)


def _can_switch_modes(optimizer: Any) -> bool:
    """Whether train() and eval() work: a wrapper may have them, and its inner optimizer not."""
    try:
        optimizer.eval()
        optimizer.train()
    except FROM_USERS:
        return False
    return True


def _takes_set_to_none(optimizer: Any) -> bool:
    """Whether zero_grad has an argument `set_to_none`."""
    try:
        parameters = signature(optimizer.zero_grad).parameters
    except (AttributeError, TypeError, ValueError):
        return True
    return "set_to_none" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
