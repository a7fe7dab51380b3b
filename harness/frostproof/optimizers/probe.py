"""The probe: what an optimizer can do with nothing frozen.

What fails here is no freezing bug. The optimizer is then unusable, or usable for some shapes, dtypes and programs only.
Of an optimizer that was discovered, the probe also finds how it is built and stepped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from inspect import signature
from re import IGNORECASE, compile
from typing import Any, Literal, NamedTuple, get_args

import msgspec
import torch
from hypothesis import find, settings
from hypothesis.strategies import SearchStrategy

from frostproof.approaches.approach import Alone, RequiresGrad
from frostproof.errors import UnusableError
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.registry import BY_ID
from frostproof.invariants.tolerance import rounding
from frostproof.optimizers.discovery import closure_of, has_modes, sane_in_place_of_none
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, DType, Group
from frostproof.spec.layers import AnyLayer, Conv2d, Embedding, Flatten, LayerNorm, Linear, Tanh
from frostproof.spec.program import (
    Clip,
    Freeze,
    Program,
    SaveLoad,
    Schedule,
    Scheduler,
    SetLr,
    Step,
)
from frostproof.spec.subject import Ability, Kind, Options, Space, Subject
from frostproof.training.bits import bits_of, finite, values
from frostproof.training.observation import Bits, Trial
from frostproof.training.training import Training
from frostproof.trial.lockstep import Outcome, run_trial

NETWORKS: dict[Kind, tuple[Input, tuple[AnyLayer, ...]]] = {
    "any": (Input((1, 3, 3)), (Conv2d(2, 3), Tanh(), Flatten(), LayerNorm(), Linear(2))),
    "up-to-2d": (Input((3,)), (Linear(4), Tanh(), Linear(2))),
    "matrices": (Input((3,)), (Linear(4, bias=False), Tanh(), Linear(2, bias=False))),
    "sparse": (Input((2,), vocabulary=3), (Embedding(3, 2, sparse=True),)),
}
STEPS = 3
PATIENCE = 24
"""Steps after which every parameter must have moved; some optimizers begin with next to nothing."""

RESUMES = (BY_ID["checkpoint-resumes"],)

ABILITIES: dict[Ability, Program] = {
    "SaveLoad": (Step(), Step(), SaveLoad(), Step(), Step()),
    "SetLr": (Step(), SetLr(), Step()),
    "Schedule": tuple(event for name in get_args(Scheduler) for event in (Schedule(name), Step())),
    "Clip": (Step(after_backward=(Clip("norm"), Clip("value"))),) * 2,
    "micro-batches": (Step(micro_batches=2),) * 2,
    "autocast": (Step(amp="autocast"),) * 2,
    "scaler": (Step(amp="scaler"), Step(amp="overflow"), Step(amp="scaler")),
}
"""What not every optimizer can do -> a program that needs it."""

BY_STEP: tuple[Ability, ...] = ("Clip", "ZeroGrad", "micro-batches", "drop", "autocast", "scaler")
"""What takes a record between backward and step, which a fused backward does not have."""


_PROCESS_GROUP = compile(
    r"process.?group|torch\.distributed|distributed package|environment variable RANK", IGNORECASE
)
"""What the text of an exception says that is raised for want of a process group."""


class Fault(NamedTuple):
    """Why a way to use an optimizer does not work, and the number of steps that it reached; -1 where it cannot be built."""

    reached: int
    text: str
    still: bool = False


class _ProcessGroupError(Exception):
    """What the optimizer raised speaks of a process group, and it had none."""


@cache
def probe(subject: Subject, device: str) -> Subject:
    """`subject` with its capabilities as found on `device`. Raises UnusableError."""
    if subject.factory is None:
        return subject
    if subject.needs:
        raise UnusableError(
            f"needs {', '.join(subject.needs)}: register a Subject (see docs/subjects.md)"
        )
    try:
        return _probed(subject, device)
    except _ProcessGroupError:
        return _probed(replace(subject, distributed=True), device)


def _probed(subject: Subject, device: str) -> Subject:
    """The same of a subject that can be run. Raises UnusableError, and _ProcessGroupError where that is another way to try."""
    plain = (
        replace(subject, space=()) if subject.discovered else subject
    )  # what is drawn may not suit it
    found = _first_that_works(
        _candidates_on_meta(plain, subject) if device == "meta" else _ways(plain, subject.space),
        device,
    )
    first = found.dtypes[0]
    one_group = (
        not found.groups
        or found.parameters == "sparse"
        or bool(_fault(found, device, first, groups=2))
    )
    found = replace(found, groups=not one_group)
    if device == "meta":
        return replace(
            found, unable=tuple(ABILITIES)
        )  # where there are no values, a dtype is a label
    found = replace(
        found,
        dtypes=tuple(
            dtype for dtype in found.dtypes if dtype == first or not _fault(found, device, dtype)
        ),
    )
    unable = tuple(
        ability
        for ability, program in ABILITIES.items()
        if ability not in found.unable and _cannot(found, device, program)
    )
    found = replace(found, unable=(*found.unable, *unable))
    if not subject.discovered:
        return found
    found = replace(found, per_parameter=found.per_parameter and _has_its_groups(found, device))
    found = replace(found, space=_sound(found, subject.space, device))
    rates = (
        [options for choice in found.space for options in choice if "lr" in dict(options)]
        if isinstance(found.space, tuple)
        else []
    )
    return replace(
        found, patience=max(_patience(found, device, options) for options in (None, *rates))
    )


def _first_that_works(ways: Iterator[Subject], device: str) -> Subject:
    """The first way that works, with what its steps show. Raises UnusableError with the fault of the way that got farthest, which says
    best what is missing."""
    faults: list[tuple[Subject, Fault]] = []
    for way in ways:
        if (
            faults
            and way.dtypes != faults[0][0].dtypes
            and any(fault.reached >= STEPS for _, fault in faults)
        ):
            break  # what goes through all steps takes the dtype
        found, fault = _tried(way, device)
        if fault is None:
            return found
        faults.append((way, fault))
    raise UnusableError(max((fault for _, fault in faults), key=lambda each: each.reached).text)


def _ways(subject: Subject, space: Space) -> Iterator[Subject]:
    """All candidates: with nothing added, with values in the place of None, and then the same in dtypes that are less simple."""
    bases = [subject]
    sane = sane_in_place_of_none(subject.factory) if subject.discovered else {}
    if sane.keys() - subject.arguments.keys():
        bases.append(replace(subject, arguments={**sane, **subject.arguments}))
    for place in range(len(subject.dtypes)):
        for base in bases:
            yield from _candidates(replace(base, dtypes=base.dtypes[place:]), space)


def _candidates(subject: Subject, space: Space) -> Iterator[Subject]:
    """Ways to use it, the likeliest first: as it is stated; where nobody stated any, other ways, and values for arguments whose
    defaults do not work."""
    stated = [subject]
    if subject.closure == "optional":
        stated.append(replace(subject, closure="required"))
    kinds: tuple[Kind, ...] = (
        ("any", "up-to-2d", "matrices", "sparse")
        if subject.parameters == "any"
        else (subject.parameters,)
    )
    if subject.takes == "two-lists":
        kinds = (
            tuple(kind for kind in kinds if kind in ("any", "up-to-2d")) or kinds
        )  # others leave a list empty
    yield from (replace(each, parameters=kind) for kind in kinds for each in stated)
    for way in _OTHERWISE if subject.discovered and subject.takes == "parameters" else ():
        if "closure" not in way or subject.closure != "never":
            yield from (replace(subject, parameters=kind, **way) for kind in kinds[:3])
    for options in (
        (options for choice in space for options in choice)
        if subject.discovered and isinstance(space, tuple)
        else ()
    ):
        yield replace(subject, arguments={**subject.arguments, **dict(options)})


def _candidates_on_meta(plain: Subject, subject: Subject) -> Iterator[Subject]:
    """As it is stated, or as it is used on the CPU: without values there is nothing to tell other ways apart."""
    yield plain
    with suppress(UnusableError):
        yield replace(probe(subject, "cpu"), space=plain.space)


def _hidden_matrices(name: str, shape: tuple[int, ...]) -> dict[str, bool]:
    """`use_muon` for matrices, as implementations of Muon ask for it in each group."""
    return {"use_muon": len(shape) == 2}


_OTHERWISE: tuple[dict[str, Any], ...] = (
    {"closure": "after-backward"},
    {"backward": "create-graph"},
    {"takes": "named-parameters"},
    {"keys": _hidden_matrices},
)


def _tried(subject: Subject, device: str) -> tuple[Subject, Fault | None]:
    """The subject with what a few steps show of it, and why they do not work with nothing frozen; None where they do."""
    subject = _as_built(subject, device)
    if subject.backward == "fused":
        subject = replace(
            subject, closure="never", unable=tuple(dict.fromkeys((*subject.unable, *BY_STEP)))
        )
    fault = _fault(subject, device, subject.dtypes[0])
    if fault is None or not fault.still or not subject.discovered:
        return subject, fault
    slow = replace(subject, patience=PATIENCE)
    return slow, _fault(slow, device, slow.dtypes[0])


def _as_built(subject: Subject, device: str) -> Subject:
    """The subject with what shows on the optimizer that it builds; as it is where that raises, which its trial then tells.

    Of an optimizer behind a function, nothing else shows it.
    """
    try:
        with _training(
            _case(subject, subject.dtypes[0]), replace(subject, modes=False), device
        ) as training:
            optimizer = training.optimizer
    except (Exception, SystemExit):
        return subject
    found: dict[str, Any] = {"modes": has_modes(optimizer) and _switches(optimizer)}
    closure = closure_of(optimizer)
    if subject.closure == "optional" and (subject.discovered or closure != "after-backward"):
        found["closure"] = closure
    if subject.discovered and subject.backward == "plain" and hasattr(optimizer, "fused_backward"):
        found["backward"] = "fused"
    if "set_to_none" not in subject.unable and not _takes_set_to_none(optimizer):
        found["unable"] = (*subject.unable, "set_to_none")
    return replace(subject, **found)


def _switches(optimizer: Any) -> bool:
    """Whether train() and eval() can be called. A wrapper may have them where the optimizer in it has none."""
    try:
        optimizer.eval()
        optimizer.train()
    except Exception:
        return False
    return True


@contextmanager
def _training(case: Case, subject: Subject, device: str) -> Iterator[Training]:
    """A training with nothing frozen, which is released afterwards."""
    training = Training(case, subject, RequiresGrad(), device)
    try:
        training.build()
        yield training
    finally:
        training.release()


def _patience(subject: Subject, device: str, options: Options | None) -> int:
    """The number of steps after which every element of every parameter has moved, with nothing frozen.

    Every element: an update that is not much larger than rounding moves some of them at once, and others not for long.
    """
    dtype = subject.dtypes[0]
    trial = _some_steps(subject, device, dtype, options=options)
    start = trial.starts["a"].weights
    for number, record in enumerate(trial.records, start=1):
        pairs = list(zip(start, record.observations["a"].weights, strict=True))
        if subject.parameters == "sparse":  # rows that no sample names have no gradient
            moved = all(old != new for old, new in pairs)
        else:
            moved = all(
                x != y
                for old, new in pairs
                for x, y in zip(values(old, dtype), values(new, dtype), strict=True)
            )
        if moved:
            return number
    return PATIENCE


def _takes_set_to_none(optimizer: Any) -> bool:
    """Whether zero_grad has room for it."""
    zero_grad = getattr(optimizer, "zero_grad", None)
    if zero_grad is None:
        return True
    try:
        parameters = signature(zero_grad).parameters
    except (TypeError, ValueError):
        return True
    return "set_to_none" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def simplest(subject: Subject) -> Options:
    """The hyperparameters to which a drawn group shrinks."""
    if isinstance(subject.space, SearchStrategy):
        return _smallest(subject.space)
    return tuple(pair for choice in subject.space for pair in choice[0])


@cache
def _smallest(space: SearchStrategy[dict[str, Any]]) -> Options:
    return tuple(
        find(
            space, lambda _: True, settings=settings(database=None, derandomize=True, deadline=None)
        ).items()
    )


def _fault(
    subject: Subject, device: str, dtype: DType, groups: int = 1, options: Options | None = None
) -> Fault | None:
    """Why a few steps with nothing frozen do not work; None where they do."""
    trial = _some_steps(subject, device, dtype, groups, options)
    steps = len(trial.case.program)
    if trial.crash is not None:
        what = (
            "be built"
            if trial.crash.phase == "build"
            else f"{trial.crash.phase} with nothing frozen"
        )
        return Fault(trial.crash.index, f"cannot {what}: {trial.crash}")
    if device == "meta":
        return None
    start, last = trial.starts["a"].weights, trial.records[-1].observations["a"].weights
    for parameter, data in zip(trial.case.parameters, last, strict=True):
        if not finite(data, dtype):
            return Fault(
                steps,
                f"makes {parameter.name} infinite or NaN in {steps} steps with nothing frozen",
            )
    if last == start:
        uses = [record.observations["a"].closure for record in trial.records]
        without = any(use is not None and not use.grad_enabled for use in uses)
        why = "calls its closure with gradients disabled, and " if without else ""
        return Fault(
            steps, f"{why}moves no parameter in {steps} steps with nothing frozen", still=True
        )
    if (
        subject.takes == "two-lists" and subject.discovered
    ):  # for its names alone: the second may be for something else
        moved = {
            len(p.shape) == 2
            for p, old, new in zip(trial.case.parameters, start, last, strict=True)
            if old != new
        }
        if moved != {len(p.shape) == 2 for p in trial.case.parameters}:
            return Fault(
                steps,
                f"moves nothing of one of its two lists in {steps} steps with nothing frozen",
                still=True,
            )
    return None


def _some_steps(
    subject: Subject, device: str, dtype: DType, groups: int = 1, options: Options | None = None
) -> Trial:
    steps = max(STEPS, subject.patience) if device != "meta" else 1
    case = _case(subject, dtype, groups, options).replaced(
        program=(Step(closure=subject.needs_closure),) * steps
    )
    return _outcome(case, subject, device).trial


def _outcome(
    case: Case, subject: Subject, device: str, invariants: Sequence[Invariant] = ()
) -> Outcome:
    """A trial with nothing frozen. Raises _ProcessGroupError where the optimizer crashed for want of one."""
    outcome = run_trial(case, subject, device, invariants, Alone())
    if (
        outcome.trial.crash is not None
        and not subject.distributed
        and _PROCESS_GROUP.search(str(outcome.trial.crash))
    ):
        raise _ProcessGroupError
    return outcome


def _cannot(subject: Subject, device: str, program: Program) -> bool:
    """Whether a program raises, or a checkpoint does not resume, with nothing frozen."""
    if subject.needs_closure:
        if any(isinstance(event, Step) and event.scaled for event in program):
            return True  # a GradScaler takes no closure
        program = tuple(
            msgspec.structs.replace(event, closure=True) if isinstance(event, Step) else event
            for event in program
        )
    outcome = _outcome(
        _case(subject, subject.dtypes[0]).replaced(program=program), subject, device, RESUMES
    )
    return outcome.trial.crash is not None or bool(outcome.violated)


def _sound(subject: Subject, space: Space, device: str) -> Space:
    """What of a discovered space works, each alternative tried by itself and the simplest of all together."""
    if isinstance(space, SearchStrategy):
        return space
    sound = []
    for choice in space:
        works = tuple(
            options
            for options in choice
            if not _fault(subject, device, subject.dtypes[0], options=options)
        )
        if works:
            sound.append(works)
    together = tuple(pair for choice in sound for pair in choice[0])
    return tuple(sound) if not _fault(subject, device, subject.dtypes[0], options=together) else ()


def _has_its_groups(subject: Subject, device: str) -> bool:
    """Whether param_groups holds what the optimizer was given, in its order and its groups, so that they can be edited."""
    with _training(_case(subject, subject.dtypes[0]), subject, device) as training:
        groups, given = training.optimizer.param_groups, training.ownership
        held, parameters = (
            [id(p) for group in groups for p in group["params"]],
            list(training.model.parameters()),
        )
        return len(groups) == len(given.members) and held == [
            id(parameters[i]) for i in given.owned
        ]


def depends_on_order(subject: Subject, device: str) -> bool:
    """Whether it trains in another way when its groups, or the parameters in them, come in reverse order, or when there are two
    groups in the place of one, with nothing frozen.

    Then something that it knows belongs to a place in the list, or to a number of groups, and not to a parameter.
    """
    if not subject.per_parameter:
        return False  # nobody edits the groups of such a one
    rated = subject.groups and "lr" in dict(simplest(subject))
    orders: tuple[_Order, ...] = ("given", "reversed")
    if subject.groups:
        orders += ("given", "two groups")
    if rated:
        orders += ("groups", "groups reversed")
    try:
        ends = {order: _trained(subject, device, order) for order in dict.fromkeys(orders)}
    except Exception:  # whatever it raises, it cannot do this
        return True
    pairs = [
        pair
        for one, other in zip(orders[::2], orders[1::2], strict=True)
        for pair in zip(ends[one], ends[other], strict=True)
    ]
    return any(rounding(left, right, subject.dtypes[0]) is None for left, right in pairs)


_Order = Literal["given", "reversed", "two groups", "groups", "groups reversed"]


def _trained(subject: Subject, device: str, order: _Order) -> tuple[Bits, ...]:
    """The weights after training: with the order of the parameters in the optimizer reversed on the way, with two groups in the
    place of one, or with the order of two groups that have learning rates of their own."""
    case = _case(subject, subject.dtypes[0])
    if order == "two groups":
        case = _case(subject, subject.dtypes[0], groups=2)
    elif order.startswith("groups"):
        first, second = _case(subject, subject.dtypes[0], groups=2).groups
        unlike = (
            first,
            msgspec.structs.replace(
                second,
                options=tuple((name, 0.01 if name == "lr" else v) for name, v in second.options),
            ),
        )
        case = case.replaced(groups=unlike if order == "groups" else unlike[::-1])
    case = case.replaced(program=(Step(closure=subject.needs_closure),) * 2 * STEPS)
    dtype = torch.get_default_dtype()
    with _training(case, subject, device) as training:
        for number in range(2 * STEPS):
            if order == "reversed" and number == STEPS:
                for group in training.optimizer.param_groups:
                    for key in {"params", "param_names"} & group.keys():
                        group[key].reverse()
            training.run(number)
            torch.set_grad_enabled(
                True
            )  # an optimizer may have left it off, or changed the default; that shows elsewhere
            torch.set_default_dtype(dtype)
        return bits_of(training.model.parameters())


def moves_on_zero_grad(subject: Subject, device: str) -> bool | None:
    """Whether a parameter that was trained, and is then frozen with zeros for a gradient, moves; None where that was not seen."""
    if subject.backward == "fused":
        return None
    step = Step(closure=subject.needs_closure)
    case = _case(subject, subject.dtypes[0])
    last = case.parameters[-1].name
    program = (
        step,
        step,
        Freeze((last,), "left"),
        msgspec.structs.replace(step, set_to_none=False),
    )
    return run_trial(
        case.replaced(program=program), subject, device, (), Alone()
    ).trial.moved_on_zero_grad


def _case(subject: Subject, dtype: DType, groups: int = 1, options: Options | None = None) -> Case:
    given, layers = NETWORKS[subject.parameters]
    architecture = Architecture(given, layers)
    names = [parameter.name for parameter in architecture.parameters]
    members = [names[i::groups] for i in range(groups)]
    hyperparameters = simplest(subject) if options is None else options
    return Case(
        architecture,
        mask=(),
        groups=tuple(Group(tuple(member), hyperparameters) for member in members),
        program=(Step(),),
        dtype=dtype,
        batch=2,
        seed=1,
    )
