"""What an optimizer that works can do with nothing frozen: measured, one ability at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, get_args

import msgspec
import torch
from hypothesis.strategies import SearchStrategy

from frostproof.approaches.approach import Alone, OptimizerSubset
from frostproof.errors import UnusableError
from frostproof.invariants.tolerance import rounding
from frostproof.optimizers.nothing_frozen import (
    STEPS,
    ZERO_ELEMENTS,
    fault_of,
    run_steps,
    run_unfrozen,
    simplest,
    small_case,
    unfrozen_training,
    with_steps,
)
from frostproof.spec.case import Case, options_text
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
from frostproof.spec.setting import EAGER
from frostproof.spec.subject import Ability, Choice, Options, Space, Subject
from frostproof.training.bits import bits_of, values
from frostproof.training.observation import Bits
from frostproof.trial.lockstep import run_trial

MAX_PATIENCE = 24
"""Steps after which every parameter must have moved; some optimizers begin with tiny updates."""

ABILITIES: dict[Ability, Program] = {
    "SaveLoad": (Step(), Step(), SaveLoad(), Step(), Step()),
    "SetLr": (Step(), SetLr(), Step()),
    "Schedule": tuple(event for name in get_args(Scheduler) for event in (Schedule(name), Step())),
    "Clip": (Step(after_backward=(Clip("norm"), Clip("value"))),) * 2,
    "micro-batches": (Step(micro_batches=2),) * 2,
    "autocast": (Step(amp="autocast"),) * 2,
    "scaler": (Step(amp="scaler"), Step(amp="overflow"), Step(amp="scaler")),
}
"""Ability -> a program that needs it."""

_WORDS = {
    "SaveLoad": "saving",
    "SetLr": "a change of the learning rate",
    "Schedule": "a scheduler",
    "Clip": "clipping",
    "micro-batches": "several batches for one step",
    "scaler": "a GradScaler",
}
"""Ability -> what it is to people, where that is another word."""

BETWEEN_BACKWARD_AND_STEP: tuple[Ability, ...] = (
    "Clip",
    "ZeroGrad",
    "micro-batches",
    "drop",
    "autocast",
    "scaler",
)
"""Abilities that need time between backward and step, which not every optimizer gives."""

TRIED = {*ABILITIES, "zero-elements"}.difference(BETWEEN_BACKWARD_AND_STEP)
"""The abilities that each run finds out by trying them, and by nothing else."""


def why_unable(subject: Subject, device: str, ability: Ability) -> str:
    """Why it lacks this ability: its program raises. Empty if the subject has it."""
    program = ABILITIES[ability]
    if subject.needs_closure:
        program = tuple(
            msgspec.structs.replace(event, closure=True) if isinstance(event, Step) else event
            for event in program
        )
    case = small_case(subject, subject.dtypes[0]).replaced(program=program)
    crash = run_unfrozen(case, subject, device).crash
    word = _WORDS.get(ability, ability)
    if crash is None:
        return ""
    hint = " (pip install numpy)" if "Numpy is not available" in str(crash) else ""
    return f"{word} fails with nothing frozen: {crash}{hint}"


def why_not_zero_elements(subject: Subject, device: str) -> str:
    """Why it cannot train parameters without elements, beside others or alone; empty if it can.

    No drawn layer of matrices, or with a sparse gradient, has such parameters.
    """
    if subject.parameters in ("matrices", "sparse"):
        return ""
    dtype = subject.dtypes[0]
    fault = fault_of(subject, device, dtype, architecture=ZERO_ELEMENTS)
    if fault is not None:
        return fault.why_not("a parameter without elements fails")
    others = tuple(p.name for p in ZERO_ELEMENTS.parameters if 0 not in p.shape)
    steps = (Step(closure=subject.needs_closure),) * STEPS
    case = small_case(subject, dtype, architecture=ZERO_ELEMENTS)
    case = case.replaced(mask=others, program=steps)  # which are not in the optimizer
    crash = run_trial(case, subject, device, (), Alone(OptimizerSubset())).trial.crash
    return "" if crash is None else f"parameters without elements fail alone: {crash}"


def steps_until_moved(subject: Subject, device: str, options: Options | None) -> int:
    """The number of steps after which every element of every parameter has moved.

    Every element counts, because an update that is hardly larger than rounding moves some at once
    and others much later. In parameters with sparse gradients one moved row is enough.
    """
    dtype = subject.dtypes[0]
    trial = run_steps(subject, device, dtype, options=options)
    if trial.crash is not None:
        return MAX_PATIENCE
    start = trial.starts["a"].weights
    for number, record in enumerate(trial.records, start=1):
        pairs = zip(start, record.observations["a"].weights, strict=True)
        if subject.parameters == "sparse":
            moved = all(old != new for old, new in pairs)
        else:
            moved = all(
                x != y
                for old, new in pairs
                for x, y in zip(values(old, dtype), values(new, dtype), strict=True)
            )
        if moved:
            return number
    return MAX_PATIENCE


def working_space(subject: Subject, space: tuple[Choice, ...], device: str) -> Space:
    """The alternatives of a discovered space that work, each tried alone.

    A switch must not make weights begin to move later, for which every invariant would have to
    wait. The simplest are then tried together. If they do not work, nothing is drawn.
    """
    dtype, working = subject.dtypes[0], list[Choice]()
    for choice in space:
        works = tuple(each for each in choice if not fault_of(subject, device, dtype, options=each))
        if works:
            working.append(works)
    working = _without_slow_switches(subject, working, device)
    together = tuple(pair for choice in working for pair in choice[0])
    return () if fault_of(subject, device, dtype, options=together) else tuple(working)


def _without_slow_switches(subject: Subject, space: list[Choice], device: str) -> list[Choice]:
    """The choices, of switches only those whose second value lets weights move as soon."""
    switches = [each for each in space if any(isinstance(value, bool) for _, value in each[0])]
    if not switches:
        return space
    rate = next((choice[0] for choice in space if "lr" in dict(choice[0])), ())
    soonest = steps_until_moved(subject, device, rate)
    late = [
        choice
        for choice in switches
        if len(choice) < 2
        or any(steps_until_moved(subject, device, (*rate, *each)) > soonest for each in choice)
    ]
    return [choice for choice in space if choice not in late]


def without_crashes(subject: Subject, device: str) -> tuple[Space, tuple[str, ...]]:
    """The alternatives of a stated space with which it steps, and why each other is left out.

    Each is tried with the simplest of the other choices. Raises UnusableError if the simplest of
    all, or the simplest example of a strategy, does not work.
    """
    options = simplest(subject)
    fault = fault_of(subject, device, subject.dtypes[0], options=options)
    if fault is not None:
        raise UnusableError(f"with {options_text(options)} of its space it {fault.text}")
    if isinstance(subject.space, SearchStrategy):
        return subject.space, ()
    kept: list[Choice] = []
    reasons: list[str] = []
    for choice in subject.choices:
        others = tuple(pair for pair in simplest(subject) if pair not in choice[0])
        working = [choice[0]]
        for options in choice[1:]:
            trial = run_steps(subject, device, subject.dtypes[0], options=(*others, *options))
            if trial.crash is None:
                working.append(options)
            else:
                reasons.append(
                    f"{options_text(options)}: with nothing frozen it raises {trial.crash}"
                )
        kept.append(tuple(working))
    return tuple(kept), tuple(reasons)


def keeps_groups(subject: Subject, device: str) -> bool:
    """Whether param_groups may be edited: it holds the given groups, in their order, and rules.

    An optimizer may sort its parameters. If it keeps a list of its own, it goes on with a parameter
    that left its group.
    """
    step = Step(closure=subject.needs_closure)
    # The network with the most parameters that are alike.
    network = replace(subject, parameters="up-to-2d") if subject.parameters == "any" else subject
    case = small_case(network, subject.dtypes[0]).replaced(program=(step, step))
    (group,) = case.groups
    backwards = msgspec.structs.replace(group, parameters=group.parameters[::-1])
    cases = case, case.replaced(groups=(backwards,))
    return all(_holds_groups(each, subject, device) for each in cases) and _lets_go(
        case, subject, device
    )


def _holds_groups(case: Case, subject: Subject, device: str) -> bool:
    """Whether the new optimizer holds the groups that it was given, in their order."""
    with unfrozen_training(case, subject, device) as training:
        groups, given = training.optimizer.param_groups, training.ownership
        parameters = list(training.model.parameters())
        held = [id(p) for group in groups for p in group["params"]]
        expected = [id(parameters[i]) for i in given.owned]
        return len(groups) == len(given.members) and held == expected


def _lets_go(case: Case, subject: Subject, device: str) -> bool:
    """Whether a parameter that left its group after the first step stays in the second."""
    with unfrozen_training(case, subject, device) as training:
        try:
            training.run(0)
            left = training.optimizer.param_groups[-1]["params"].pop()
            before = bits_of([left])
            training.run(1)
        except Exception:  # the trials show when it raises
            return True
        return bits_of([left]) == before


def depends_on_order(subject: Subject, device: str) -> bool:
    """Whether another order, or another number, of parameter groups makes other weights.

    Something that the optimizer knows then belongs to a position in a list, or to a number of
    groups, and not to a parameter. Subjects whose groups nobody edits are not tried.
    """
    if not subject.per_parameter:
        return False
    pairs: list[tuple[_Order, _Order]] = [("given", "reversed")]
    if subject.groups:
        pairs.append(("given", "two groups"))
        if "lr" in dict(simplest(subject)):
            pairs.append(("groups", "groups reversed"))
    try:
        orders = {order: None for pair in pairs for order in pair}
        weights = {order: _train(subject, device, order) for order in orders}
    except Exception:  # the optimizer cannot train in one of these orders
        return True
    return any(
        rounding(left, right, subject.dtypes[0]) is None
        for one, other in pairs
        for left, right in zip(weights[one], weights[other], strict=True)
    )


_Order = Literal["given", "reversed", "two groups", "groups", "groups reversed"]


def _train(subject: Subject, device: str, order: _Order) -> tuple[Bits, ...]:
    """The weights after 2 * STEPS steps.

    "reversed" reverses the parameters in the optimizer after half of them, "two groups" splits
    the group, and "groups" and "groups reversed" give two groups learning rates of their own.
    """
    case = small_case(subject, subject.dtypes[0], groups=1 if order in ("given", "reversed") else 2)
    if order.startswith("groups"):
        first, second = case.groups
        options = tuple((name, 0.01 if name == "lr" else v) for name, v in second.options)
        groups = (first, msgspec.structs.replace(second, options=options))
        case = case.replaced(groups=groups if order == "groups" else groups[::-1])
    case = case.replaced(program=(Step(closure=subject.needs_closure),) * 2 * STEPS)
    dtype = torch.get_default_dtype()
    with unfrozen_training(case, subject, device) as training:
        for number in range(2 * STEPS):
            if order == "reversed" and number == STEPS:
                for group in training.optimizer.param_groups:
                    for key in {"params", "param_names"} & group.keys():
                        group[key].reverse()
            training.run(number)
            # An optimizer may have changed these, which flags-untouched reports.
            torch.set_grad_enabled(True)
            torch.set_default_dtype(dtype)
        return bits_of(training.model.parameters())


def moves_on_zero_grad(subject: Subject, device: str) -> bool | None:
    """Whether a parameter that has trained moves when it is frozen with a gradient of zeros.

    None if the trial did not show it.
    """
    if subject.runs_backward:
        return None
    step = Step(closure=subject.needs_closure)
    case = small_case(subject, subject.dtypes[0])
    freeze = Freeze((case.parameters[-1].name,), "left")
    program = (step, step, freeze, msgspec.structs.replace(step, set_to_none=False))
    trial = run_trial(case.replaced(program=program), subject, device, (), Alone()).trial
    return trial.moved_on_zero_grad


def forgotten(subject: Subject, device: str) -> list[str]:
    """The optimizer's own numbers that are others after a few steps in its setting than without.

    A step that torch.compile runs forgets the attributes of an optimizer that are plain numbers.
    """
    eager, wrapped = (
        _numbers(replace(subject, setting=setting), device) for setting in (EAGER, subject.setting)
    )
    return [
        name
        for name, value in eager.items()
        if not math.isclose(value, wrapped.get(name, math.nan), rel_tol=0.01)
    ]


def _numbers(subject: Subject, device: str) -> dict[str, float]:
    """The numbers among the optimizer's attributes, after a few steps, but for NaNs."""
    case = with_steps(small_case(subject, subject.dtypes[0]), subject)
    with unfrozen_training(case, subject, device) as training:
        for number in range(len(case.program)):
            training.run(number)
        attributes = vars(training.optimizer).items()
        numbers = {name: value for name, value in attributes if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if not math.isnan(value)}
