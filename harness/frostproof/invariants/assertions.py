"""Kinds of breach that a script asserts by weights that stay or move, or by an exception."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from frostproof.invariants.invariant import HELD, Assertion, Judgements, Kind, ShownBreach
from frostproof.invariants.movement import rewrites, watched_from
from frostproof.spec.case import Role
from frostproof.spec.program import LoadWeights, Step
from frostproof.training.observation import EventRecord, Observation, Trial
from frostproof.training.source import Statement, block

FEW = 4
"""Up to this size a tensor is shown whole; of a larger one, the pair that differs most."""

UNLIKE = "not torch.equal({left}.view(torch.{integer}), {right}.view(torch.{integer}))"
"""A condition: two tensors of the case's dtype differ in some bit."""

BUFFERS_UNLIKE = (
    "not torch.equal({left}.flatten().view(torch.uint8), {right}.flatten().view(torch.uint8))"
)
"""A condition: two tensors of any dtype differ in some bit."""

CALLS = {
    "build": "the constructor",
    "zero_grad": "zero_grad()",
    "step": "step()",
    "train": "train()",
    "eval": "eval()",
    "load": "load_state_dict()",
    "regroup": "add_param_group()",
}
"""Phase of a training -> the call of the optimizer that can raise in it."""


def differ(shown: ShownBreach, left: str, right: str, text: str) -> Statement:
    """The statement that exits where two tensors, of the first parameter, differ in some bit."""
    unlike = UNLIKE.format(left=left, right=right, integer=shown.integer)
    head, text = f"if {shown.here(unlike)}:  # bitwise", shown.fill(text)
    if prod(shown.case.parameters[shown.parameter].shape) <= FEW:
        numbers = f"{text} {shown.name}: {{{left}.tolist()}} -> {{{right}.tolist()}}"
        return block(head, shown.leave(numbers))
    numbers = f"{{{left}.flatten()[i]:.9g}} -> {{{right}.flatten()[i]:.9g}}"
    worst = f"i = ({right} - {left}).abs().argmax()"
    return block(head, worst, shown.leave(f"{text} {shown.name}[{{i}}]: {numbers}"))


@dataclass(frozen=True, eq=False, repr=False)
class Moved(Kind):
    """The first parameter must not move in the event, but did.

    Where the forward pass or a switch of modes rewrites weights, it must not move in the step.
    """

    whole_event: bool = False
    """Whether a switch of modes within the event must not move it either."""

    def assertion(self, shown: ShownBreach) -> Assertion:
        after = f"after = {shown.values}.detach()"
        found = Assertion(verdict=[after, differ(shown, "before", "after", f"{self.text}:")])
        event, number = shown.record.event, shown.breach.event
        point = "step" if shown.observation.optimizer_called else "handed"
        stays = self.whole_event and not rewrites(shown.trial, shown.record, shown.parameter)
        if shown.observation.weights_at_step is None or stays:
            point = "before"
        elif isinstance(event, LoadWeights):
            point = "loaded"
        elif not any(parameter.renormed for parameter in shown.case.parameters):
            point = "switched"
        elif isinstance(event, Step) and event.closure:  # which has names of its own
            kept = f"kept[:] = [{shown.values}.detach().clone()]"
            found.notes = {(number, "before"): ["kept = []"], (number, "handed"): [kept]}
            found.verdict.insert(0, "(before,) = kept")
            return found
        found.notes[number, point] = [f"before = {shown.values}.detach().clone()"]
        return found


def moved(
    text: str,
    where: str = " {where}: {change}",
    *,
    whole_event: bool = False,
    by_way: bool = False,
) -> Moved:
    return Moved("moved", text, where=where, whole_event=whole_event, by_way=by_way)


LEFT_TRAINABLE = (
    "your way {approach} left requires_grad=True on a parameter that it was to freeze, which moved"
)
"""Why a parameter moved under the user's own way to freeze."""


def left_trainable(role: Role, observed: Observation, i: int) -> bool:
    """Whether the user's own way left parameter `i`, which it was to freeze, trainable."""
    return role == "way" and observed.flags[i]


def unmoved(
    kind: Moved, trial: Trial, record: EventRecord, role: Role, positions: Iterable[int]
) -> Judgements:
    """A breach of this kind at the first of `positions` that moved in the event."""
    observed = record.observations[role]
    weights, rewritten = observed.weights, observed.weights_before
    for i in positions:
        stays = kind.whole_event and not rewrites(trial, record, i)
        before = observed.before.weights[i] if stays else rewritten[i]
        if weights[i] != before:
            yield kind.breach(record, role, i, before, weights[i])
        yield HELD


class Stuck(Kind):
    """The first parameter must have moved since an event, but has not.

    Where the forward pass or a switch of modes rewrites weights, some step must have moved it.
    """

    def assertion(self, shown: ShownBreach) -> Assertion:
        start, role = watched_from(shown.trial, shown.since or 0), shown.breach.roles[0]
        values = f"{shown.values}.detach()"
        records = shown.trial.records[start : shown.breach.event + 1]
        if all(each.observations[role].weights_at_step is None for each in records):
            view = f"view(torch.{shown.integer})"
            same = f"torch.equal(before.{view}, {values}.{view})"
            found = Assertion(verdict=[shown.exits_if(same, self.text)])
            found.notes[start, "before"] = [f"before = {values}.clone()"]
            return found
        unlike = UNLIKE.format(left="kept[0]", right=values, integer=shown.integer)
        found = Assertion(
            setup=["kept, moved = [], []"], verdict=[shown.exits_if("not any(moved)", self.text)]
        )
        for each in records:
            if each.observations[role].optimizer_called:
                found.notes[each.number, "handed"] = [f"kept[:] = [{values}.clone()]"]
                found.notes[each.number, "end"] = [f"moved.append({unlike})"]
        return found


def stuck(text: str, where: str = "") -> Stuck:
    return Stuck("stuck", text, where=where, stuck=True)


class _Raises(Kind):
    def assertion(self, shown: ShownBreach) -> Assertion:
        phase = shown.crash.phase
        leaving = shown.leave(f"{CALLS.get(phase, phase)} raised {{error!r:.200}}")
        return Assertion(guard=(phase, block(f"except {shown.crash.caught} as error:", leaving)))


RAISES = _Raises(
    "raises",
    "{crash.phase} raised {crash} {crash_at}, approach {approach}; {expected}",
    where="",
    raises=True,
)
"""The training ended with an exception; `expected` says where it does not."""
