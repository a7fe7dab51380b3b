"""The probe: what an optimizer can do with nothing frozen.

A failure here is not a freezing bug. The optimizer is then unusable, or usable for some shapes,
dtypes and programs only. The probe also finds how a discovered optimizer is built and stepped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

from frostproof.errors import UnusableError
from frostproof.optimizers.candidates import as_built, candidates
from frostproof.optimizers.coupling import coupling
from frostproof.optimizers.discovery import IMPLEMENTATIONS
from frostproof.optimizers.guesses import with_guesses
from frostproof.optimizers.measurements import (
    ABILITIES,
    BETWEEN_BACKWARD_AND_STEP,
    MAX_PATIENCE,
    forgotten,
    keeps_groups,
    steps_until_moved,
    why_not_zero_elements,
    why_unable,
    without_crashes,
    working_space,
)
from frostproof.optimizers.nothing_frozen import (
    STEPS,
    Fault,
    ProcessGroupError,
    fault_of,
    run_steps,
)
from frostproof.optimizers.statement import changes
from frostproof.optimizers.torch_version import torch_is
from frostproof.process.fence import eager_only
from frostproof.spec.setting import EAGER
from frostproof.spec.subject import Ability, Closure, Subject, drawn_names, given_arguments

DEFAULTS_ALONE = (
    "hyperparameters: its constructor names none of those that are drawn, so that its defaults "
    "alone are tried; give others as the `space` of a Subject"
)

REBUILT = (
    "whether frozen parameters keep their state: it does not let go of parameters that leave its "
    "groups, or orders them anew, so that it is built anew for each mask; state per_parameter=True "
    "in a Subject if it should let go"
)

GUESSED = "other arguments than {}, which were guessed: state yours as the `arguments` of a Subject"


@cache
def probe(subject: Subject, device: str) -> Subject:
    """`subject` with its capabilities as measured on `device`. Raises UnusableError."""
    for releases, why in subject.setting.needs_torch.items():
        if not torch_is(releases):
            raise UnusableError(f"{subject.setting.name} needs torch {releases}: {why}")
    if subject.factory is None:
        return subject
    if subject.setting is not EAGER:
        return _probe_in_setting(subject, device)
    try:
        return _probe(subject, device)
    except ProcessGroupError:
        return _probe(replace(subject, distributed=True), device)


def _probe_in_setting(subject: Subject, device: str) -> Subject:
    """The subject with its capabilities as measured without its setting, where it is faster.

    Raises UnusableError if it does not work in its setting.
    """
    setting = subject.setting
    with eager_only():
        found = probe(replace(subject, setting=EAGER), device)
    unable: tuple[Ability, ...] = ("scaler",) if setting.step else ()
    found = replace(found, setting=setting, unable=tuple(dict.fromkeys((*found.unable, *unable))))
    fault = fault_of(found, device, found.dtypes[0])
    if fault is not None:
        raise UnusableError(f"in {setting.name}: {fault.text}")
    if setting.compiles and (names := forgotten(found, device)):
        raise UnusableError(
            f"in {setting.name}: torch.compile forgets its {', '.join(names)}, which each step "
            "changes, so that it trains otherwise than without; keep it in state, or in a group"
        )
    if setting.saving and "SaveLoad" not in found.unable:
        why = why_unable(found, device, "SaveLoad")
        if why:
            unable, not_tried = (*found.unable, "SaveLoad"), (*found.not_tried, why)
            found = replace(found, unable=unable, not_tried=not_tried)
    return found


def _probe(subject: Subject, device: str) -> Subject:
    """Probe a subject that needs nothing. Raises UnusableError, and ProcessGroupError."""
    subject = _with_what_it_needs(subject, device)
    # Drawn hyperparameters may not suit a discovered optimizer: it is first tried without any.
    plain = replace(subject, space=()) if subject.discovered else subject
    found = _first_that_works(candidates(plain, subject.space), device)
    first = found.dtypes[0]
    several = found.groups and found.parameters != "sparse"
    found = _with_arguments_for_its_closure(found, device)
    fault = fault_of(found, device, first, groups=2) if several else None
    found = replace(found, groups=several and fault is None)
    dtypes = tuple(
        dtype for dtype in found.dtypes if dtype == first or not fault_of(found, device, dtype)
    )
    found = replace(found, dtypes=dtypes)
    not_tried = () if fault is None else (fault.why_not("several groups fail"),)
    found = _without_inabilities(replace(found, not_tried=not_tried), device)
    found = replace(found, space=subject.space)
    if subject.discovered and "space" not in subject.stated:
        plain = replace(found, space=())
        found = replace(found, space=working_space(plain, subject.choices, device))
    else:
        space, reasons = without_crashes(found, device)
        found = replace(found, space=space, not_tried=(*found.not_tried, *reasons))
    if subject.discovered:
        found = _probe_discovered(found, device)
    return replace(found, coupled=coupling(found, device))


def _with_what_it_needs(subject: Subject, device: str) -> Subject:
    """The subject with values for the arguments that it needs. Raises UnusableError."""
    if not subject.needs:
        return subject
    faults: list[tuple[Subject, Fault]] = []
    guessed = with_guesses(replace(subject, space=()), IMPLEMENTATIONS)
    for way in guessed if subject.discovered else ():
        _, fault = _try(way, device)
        if fault is None:
            return replace(way, space=subject.space)
        faults.append((way, fault))
    way, fault = max(faults, key=lambda each: each[1].step, default=(subject, None))
    if fault is not None and fault.step >= 0:  # it was built: something else is missing
        return replace(way, space=subject.space)
    needs = ", ".join(subject.needs)
    raise UnusableError(
        f"needs {needs}: register a Subject (see docs/subjects.md)", _said(subject, faults)
    )


def _said(subject: Subject, faults: Iterable[tuple[Subject, Fault]]) -> list[tuple[str, str]]:
    """In what each way to use the subject differs from the first, and what it said."""
    return [(", ".join(changes(subject, way).values()), fault.text) for way, fault in faults]


def _with_arguments_for_its_closure(subject: Subject, device: str) -> Subject:
    """The subject, whose closure is optional, with a closure that takes arguments if it must."""
    if not subject.discovered or subject.closure != "optional" or "closure" in subject.stated:
        return subject
    plain, other = replace(subject, closure="required"), replace(subject, closure="with-arguments")
    crashes = (run_steps(each, device, each.dtypes[0]).crash for each in (plain, other))
    return other if next(crashes) is not None and next(crashes) is None else subject


def _without_inabilities(subject: Subject, device: str) -> Subject:
    """The subject with what it is unable to do, and why."""
    unable = dict.fromkeys(subject.unable, "")
    if subject.needs_closure:
        unable["scaler"] = ""  # a GradScaler takes no closure
    for each in ABILITIES:
        if each not in unable and (why := why_unable(subject, device, each)):
            unable[each] = why
    if "zero-elements" not in unable and (why := why_not_zero_elements(subject, device)):
        unable["zero-elements"] = why
    reasons = filter(None, unable.values())
    return replace(subject, unable=tuple(unable), not_tried=(*subject.not_tried, *reasons))


def _probe_discovered(found: Subject, device: str) -> Subject:
    """The same with what nobody stated: whether groups can be edited, and patience."""
    if (
        found.per_parameter
        and "per_parameter" not in found.stated
        and not keeps_groups(found, device)
    ):
        found = replace(found, per_parameter=False, not_tried=(*found.not_tried, REBUILT))
    if isinstance(found.factory, type) and found.space == ():
        found = replace(found, not_tried=(*found.not_tried, DEFAULTS_ALONE))
    stated = {*drawn_names(found), *IMPLEMENTATIONS, *found.stated.get("arguments", ())}
    guesses = {name: value for name, value in found.arguments.items() if name not in stated}
    if guesses:
        why = GUESSED.format(given_arguments(replace(found, arguments=guesses)))
        found = replace(found, not_tried=(*found.not_tried, why))
    fault = fault_of(found, device, found.dtypes[0], groups=2) if found.groups else None
    if fault is not None:
        why = fault.why_not("groups that state their options fail")
        found = replace(found, groups=False, not_tried=(*found.not_tried, why))
    if "patience" in found.stated:
        return found
    rates = [options for choice in found.choices for options in choice if "lr" in dict(options)]
    patience = max(steps_until_moved(found, device, options) for options in (None, *rates))
    return replace(found, patience=patience)


def _first_that_works(ways: Iterator[Subject], device: str) -> Subject:
    """The first way that works, with what its steps show.

    Raises UnusableError with the fault of the way that got farthest, which says best what is
    missing.
    """
    faults: list[tuple[Subject, Fault]] = []
    for way in ways:
        if (
            faults
            and way.dtypes != faults[0][0].dtypes
            and any(fault.step >= STEPS for _, fault in faults)
        ):
            break  # an optimizer that went through all steps takes the dtype
        found, fault = _try(way, device)
        if fault is None:
            return found
        faults.append((way, fault))
    farthest = max((fault for _, fault in faults), key=lambda each: each.step)
    raise UnusableError(farthest.text, _said(faults[0][0], faults))


def _try(subject: Subject, device: str) -> tuple[Subject, Fault | None]:
    """The subject with what a few steps show, and why they do not work; None if they do."""
    subject = as_built(subject, device)
    if subject.runs_backward:
        unable = tuple(dict.fromkeys((*subject.unable, *BETWEEN_BACKWARD_AND_STEP)))
        closure: Closure = "never" if subject.backward == "fused" else "required"
        subject = replace(subject, closure=closure, unable=unable)
    fault = fault_of(subject, device, subject.dtypes[0])
    if fault is None or not fault.still or not subject.discovered:
        return subject, fault
    if subject.backward == "in-step":  # nobody called backward, so that it got nowhere
        return subject, fault._replace(step=-1)
    slow = replace(subject, patience=MAX_PATIENCE)
    return slow, fault_of(slow, device, slow.dtypes[0])
