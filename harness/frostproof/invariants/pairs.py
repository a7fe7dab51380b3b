"""Two trainings side by side: the first difference, and how a person and a script state it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from frostproof.invariants.assertions import BUFFERS_UNLIKE, UNLIKE, differ
from frostproof.invariants.invariant import HELD, Assertion, Breach, Judgements, Kind, ShownBreach
from frostproof.invariants.tolerance import is_rounding
from frostproof.spec.case import Positions, Role
from frostproof.training.observation import EventRecord, Observation, Trial
from frostproof.training.source import Statement, block

PartName = Literal[
    "weights", "evaluations", "losses", "gradients", "buffers", "states", "generators"
]
TRAINED: tuple[PartName, ...] = ("weights", "evaluations", "losses", "buffers")
"""Everything that two trainings which train alike have in common."""


@dataclass(frozen=True, eq=False, repr=False)
class _Part(Kind):
    """Something in which two trainings may differ. A script prints only `shows`."""

    values: Callable[[Observation], Any] = lambda observed: None
    """Values by position; None where there are none to compare."""
    by_parameter: bool = False
    """Whether a position is that of a parameter."""
    rounds: Callable[[Trial, Any, Any], bool] = lambda trial, left, right: False
    """Whether a difference may pass where the subject states that it rounds differently."""

    def test(self, shown: ShownBreach) -> Statement:
        return shown.exits_if(self.condition, self.shows)


class _Weights(_Part):
    def assertion(self, shown: ShownBreach) -> Assertion:
        found, (left, right) = super().assertion(shown), (shown.left, shown.right)
        if shown.breach.roles[1] == "again":
            # A second model in the place of the first would hide a dependence on addresses.
            found.returns += ", model"
            found.verdict[0] = f'({left}, _), ({right}, _) = train("{left}"), train("{right}")'
        return found

    def test(self, shown: ShownBreach) -> Statement:
        return differ(shown, shown.left, shown.right, self.shows)


class _Gradients(_Part):
    def assertion(self, shown: ShownBreach) -> Assertion:
        # In a list, since a closure has names of its own; the first counts.
        found = super().assertion(shown)
        if shown.expected is not None and shown.found is not None:
            found.returns = "grads[0]"
            note = f"grads.append({shown.gradient}.to_dense().clone())"
            found.notes[shown.breach.event, "gradients"] = [note]
            text = "{left} -> {right} differ in the gradient of"
            found.verdict[-1] = differ(shown, shown.left, shown.right, text)
        return found


class _Buffers(_Part):
    def test(self, shown: ShownBreach) -> Statement:
        return block(f"for old, new in zip({shown.left}, {shown.right}):", super().test(shown))


PARTS: dict[PartName, _Part] = {
    "weights": _Weights(
        "weights-differ",
        "{change}",
        shows="{left} -> {right} differ in",
        returns="{values}.detach()",
        values=lambda observed: observed.weights,
        by_parameter=True,
        rounds=is_rounding,
    ),
    "evaluations": _Part(
        "evaluations-differ",
        "the loss is evaluated {expected} times, and {found} times",
        "{left} != {right}",
        shows="{left} evaluated the loss {{{left}}} times, {right} {{{right}}} times",
        returns="len(losses)",
        setup="losses = []",
        notes={"loss": "losses.append(loss)"},
        values=lambda observed: (len(observed.losses),),
    ),
    "losses": _Part(
        "losses-differ",
        "loss{numbers}",
        UNLIKE,
        shows="the losses differ: {{{left}.tolist()}} in {left}, {{{right}.tolist()}} in {right}",
        returns="torch.stack(losses)",
        setup="losses = []",
        notes={"loss": "losses.append(loss.detach())"},
        values=lambda observed: observed.losses,
        rounds=is_rounding,
    ),
    "gradients": _Gradients(
        "gradients-differ",
        "the gradient of {change}",
        "{left} != {right}",
        shows="whether {name} has a gradient differs: {{{left}}} in {left}, {{{right}}} in {right}",
        returns="grads[0] is not None",
        setup="grads = []",
        notes={"gradients": "grads.append({grad})"},
        values=lambda observed: observed.grads_after_backward,
        by_parameter=True,
        rounds=is_rounding,
    ),
    "buffers": _Buffers(
        "buffers-differ",
        "a buffer of the model",
        BUFFERS_UNLIKE.format(left="old", right="new"),
        shows="buffers differ: {{old.tolist()}} -> {{new.tolist()}}",
        returns="[buffer.clone() for buffer in model.buffers()]",
        values=lambda observed: (observed.buffers,),
        rounds=lambda trial, left, right: trial.allows_rounding,
    ),
    "states": _Part(
        "states-differ",
        "the optimizer's state of {name}",
        "{left} != {right}",
        shows="the state of {name} differs: {{{left}}} -> {{{right}}}",
        returns="{state}",
        values=lambda observed: tuple(map(observed.states.get, range(len(observed.weights)))),
        by_parameter=True,
    ),
    "generators": _Part(
        "generators-differ",
        "the state of the random number generators",
        "not torch.equal({left}, {right})",
        shows="{left} and {right} leave the random number generator in different states: "
        "one draws where the other does not",
        returns="torch.get_rng_state()",
        values=lambda observed: (observed.rng_state,),
    ),
}


def comparable(trial: Trial, record: EventRecord, roles: tuple[Role, Role]) -> bool:
    """Whether both roles are in the trial and no cause has been observed for a difference."""
    return roles[1] in record.observations and roles not in trial.diverged


class Comparison:
    """How an invariant compares two trainings."""

    def __init__(self, text: str, *, exact: bool = True) -> None:
        """`text`: what a difference means, a template.

        `exact`: whether not even a subject's stated rounding is allowed.
        """
        self.exact = exact
        text += " {at} ({left} -> {right}): "
        parts = PARTS.items()
        self.parts = {name: replace(part, text=text + part.text, where="") for name, part in parts}

    def compare(
        self,
        trial: Trial,
        record: EventRecord,
        roles: tuple[Role, Role],
        parts: Sequence[PartName] = TRAINED,
        positions: Positions | None = None,
    ) -> Judgements:
        """The first of these parts in which two roles differ that have not diverged; else HELD.

        `positions`: the parameters whose weights and gradients are compared, by default all.
        """
        if comparable(trial, record, roles):
            yield from self.differences(trial, record, roles, parts, positions)
            yield HELD

    def differences(
        self,
        trial: Trial,
        record: EventRecord,
        roles: tuple[Role, Role],
        parts: Sequence[PartName],
        positions: Positions | None = None,
        since: int | None = None,
    ) -> Iterator[Breach]:
        """The differences alone, which began at the event `since`, even if the two diverged."""
        one, other = (record.observations[role] for role in roles)
        for name in parts:
            part = self.parts[name]
            left, right = part.values(one), part.values(other)
            if left == right or left is None or right is None:
                continue
            wanted = positions if part.by_parameter else None
            for i in range(len(left)) if wanted is None else wanted:
                x, y = left[i], right[i]
                if x != y and (self.exact or not part.rounds(trial, x, y)):
                    position = i if part.by_parameter else None
                    yield part.breach(record, roles, position, x, y, since)
