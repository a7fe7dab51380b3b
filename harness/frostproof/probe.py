"""The probe: what an optimizer can do with nothing frozen.

What fails here is no freezing bug. The optimizer is then unusable, or usable for some shapes and dtypes only.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import get_args

import msgspec
from hypothesis import find, settings
from hypothesis.strategies import SearchStrategy

from frostproof.approach import Approaches
from frostproof.architecture import Architecture, Input
from frostproof.case import Case, DType, Group
from frostproof.invariants import BY_ID
from frostproof.layers import AnyLayer, Conv2d, Embedding, Flatten, LayerNorm, Linear, Tanh
from frostproof.observation import Moment, Trial
from frostproof.program import Clip, Freeze, Program, SaveLoad, Schedule, Scheduler, SetLr, Step
from frostproof.subject import Ability, Kind, Options, Subject
from frostproof.trial import Outcome, run_trial

NETWORKS: dict[Kind, tuple[Input, tuple[AnyLayer, ...]]] = {
    "any": (Input((1, 3, 3)), (Conv2d(2, 3), Tanh(), Flatten(), LayerNorm(), Linear(2))),
    "up-to-2d": (Input((3,)), (Linear(4), Tanh(), Linear(2))),
    "matrices": (Input((3,)), (Linear(4, bias=False), Tanh(), Linear(2, bias=False))),
    "sparse": (Input((2,), vocabulary=3), (Embedding(3, 2, sparse=True),)),
}
STEPS = 3
MOVES = (BY_ID["trainable-moves"],)
RESUMES = (BY_ID["checkpoint-resumes"],)


ABILITIES: dict[Ability, Program] = {
    "SaveLoad": (Step(), Step(), SaveLoad(), Step(), Step()),
    "SetLr": (Step(), SetLr(), Step()),
    "Schedule": tuple(event for name in get_args(Scheduler) for event in (Schedule(name), Step())),
    "Clip": (Step(after_backward=(Clip("norm"), Clip("value"))),) * 2,
    "autocast": (Step(amp="autocast"),) * 2,
    "scaler": (Step(amp="scaler"), Step(amp="overflow"), Step(amp="scaler")),
}
"""What not every optimizer can do -> a program that needs it."""


class Unusable(Exception):
    """The optimizer cannot be judged on this device; the message is the reason, one line."""


def probe(subject: Subject, device: str) -> Subject:
    """`subject` with its capabilities as found on `device`. Raises Unusable."""
    if subject.factory is None:
        return subject
    found, reasons = None, []
    for kind in NETWORKS:
        for closure in {"never": (False,), "optional": (False, True), "required": (True,)}[subject.closure]:
            reason = _fault(replace(subject, parameters=kind), device, subject.dtypes[0], closure)
            if not reason:
                found = replace(subject, parameters=kind, closure="required" if closure else subject.closure)
                break
            reasons.append(reason)
        if found:
            break
    if found is None:
        raise Unusable(reasons[0])
    closure = found.closure == "required"
    first = subject.dtypes[0]
    groups = found.groups and found.parameters != "sparse" and not _fault(found, device, first, closure, groups=2)
    if device == "meta":
        return replace(found, groups=groups, unable=tuple(ABILITIES))  # where there are no values, a dtype is a label
    dtypes: tuple[DType, ...] = tuple(dtype for dtype in found.dtypes if dtype == first or not _fault(found, device, dtype, closure))
    found = replace(found, groups=groups, dtypes=dtypes)
    return replace(found, unable=tuple(ability for ability, program in ABILITIES.items() if _cannot(found, device, program)))


def _simplest(subject: Subject) -> Options:
    if isinstance(subject.space, SearchStrategy):
        quick = settings(database=None, derandomize=True, deadline=None)
        return tuple(find(subject.space, lambda _: True, settings=quick).items())
    return tuple(pair for choice in subject.space for pair in choice[0])


def _fault(subject: Subject, device: str, dtype: DType, closure: bool, groups: int = 1) -> str:
    """Why a few steps with nothing frozen do not work; empty where they do."""
    values = device != "meta"
    case = _case(subject, dtype, closure, groups, steps=STEPS if values else 1)
    outcome = run_trial(case, subject, device, MOVES if values else (), Approaches())
    if outcome.trial.crash is not None:
        crash = outcome.trial.crash
        return f"cannot be built: {crash}" if crash.phase == "build" else f"cannot {crash.phase} with nothing frozen: {crash}"
    if outcome.violated:
        return f"moves no parameter in {STEPS} steps with nothing frozen"
    return _not_finite(outcome)


def moves_on_zero_grad(subject: Subject, device: str) -> bool | None:
    """Whether a parameter that was trained, and is then frozen with zeros for a gradient, moves; None where there are no values."""
    step = Step(closure=subject.closure == "required")
    case = _case(subject, subject.dtypes[0], False, 1, 1)
    last = case.parameters[-1].name
    program = (step, step, Freeze((last,), "left"), msgspec.structs.replace(step, set_to_none=False))
    return run_trial(case.replaced(program=program), subject, device, (), Approaches()).trial.moved_on_zero_grad


def _cannot(subject: Subject, device: str, program: Program) -> bool:
    """Whether a program raises, or a checkpoint does not resume, with nothing frozen."""
    if subject.closure == "required":
        if any(isinstance(event, Step) and event.scaled for event in program):
            return True  # a GradScaler takes no closure
        program = tuple(msgspec.structs.replace(event, closure=True) if isinstance(event, Step) else event for event in program)
    case = _case(subject, subject.dtypes[0], False, 1, 1).replaced(program=program)
    outcome = run_trial(case, subject, device, RESUMES, Approaches())
    return outcome.trial.crash is not None or bool(outcome.violated)


def _not_finite(outcome: Outcome) -> str:
    from frostproof.bits import values

    trial: Trial = outcome.trial
    last: Moment = trial.moments[-1]
    for parameter, data in zip(trial.case.parameters, last.seen["a"].weights, strict=True):
        if not all(map(isfinite, values(data, trial.case.dtype))):
            return f"makes {parameter.name} infinite or NaN in {STEPS} steps with nothing frozen"
    return ""


def _case(subject: Subject, dtype: DType, closure: bool, groups: int, steps: int) -> Case:
    given, layers = NETWORKS[subject.parameters]
    architecture = Architecture(given, layers)
    names = [parameter.name for parameter in architecture.parameters]
    members = [names[i::groups] for i in range(groups)]
    return Case(
        architecture,
        mask=(),
        groups=tuple(Group(tuple(member), _simplest(subject)) for member in members),
        program=(Step(closure=closure),) * steps,
        dtype=dtype,
        batch=2,
        seed=1,
    )
