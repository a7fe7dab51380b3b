"""Two trainings side by side: the first difference, and how a person and a script state it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from frostproof.invariants.assertions import UNLIKE, Asserts, check, differ, trained
from frostproof.invariants.breach import Assertion, Breach, Kind, ShownBreach
from frostproof.invariants.tolerance import is_rounding
from frostproof.spec.case import Positions, Role
from frostproof.training.observation import EventRecord, Observation, Trial
from frostproof.training.source import block

PartName = Literal[
    "weights", "evaluations", "losses", "gradients", "buffers", "states", "generators"
]
TRAINED: tuple[PartName, ...] = ("weights", "evaluations", "losses", "buffers")
"""Everything that two trainings which train alike have in common."""


class Part(NamedTuple):
    """Something in which two trainings may differ."""

    values: Callable[[Observation], Any]
    """Values by position; None where there are none to compare."""
    message: str
    """What a person reads of a difference, a template."""
    assertion: Asserts
    by_parameter: bool = False
    """Whether a position is that of a parameter."""
    rounds: Callable[[Trial, Any, Any], bool] = lambda trial, left, right: False
    """Whether a difference may pass where the subject states that it rounds differently."""


def _weights(shown: ShownBreach) -> Assertion:
    left, right = shown.left, shown.right
    found = Assertion(returns=f"{shown.tensor}.detach()", verdict=trained(shown))
    if shown.breach.roles[1] == "again":
        # A second model in the place of the first would hide a dependence on memory addresses.
        found.returns += ", model"
        found.verdict = [f'({left}, _), ({right}, _) = train("{left}"), train("{right}")']
    found.verdict.append(differ(shown, left, right, "{left} -> {right} differ in"))
    return found


def _gradients(shown: ShownBreach) -> Assertion:
    # In a list, since a closure has names of its own; the first counts, as it may be called again.
    there = shown.expected is not None and shown.found is not None
    found = check(
        "{left} != {right}",
        "whether {name} has a gradient differs: {{{left}}} in {left}, {{{right}}} in {right}",
        returns="grads[0]" if there else "grads[0] is not None",
        setup="grads = []",
        notes={"gradients": f"grads.append({{tensor}}.grad{'.to_dense().clone()' * there})"},
    )(shown)
    if there:
        text = "{left} -> {right} differ in the gradient of"
        found.verdict[-1] = differ(shown, shown.left, shown.right, text)
    return found


def _buffers(shown: ShownBreach) -> Assertion:
    test = "not torch.equal(old, new)"
    text = "buffers differ: {{old.tolist()}} -> {{new.tolist()}}"
    found = check(test, text, returns="[buffer.clone() for buffer in model.buffers()]")(shown)
    head = f"for old, new in zip({shown.left}, {shown.right}):"
    found.verdict[-1] = block(head, found.verdict[-1])
    return found


PARTS: dict[PartName, Part] = {
    "weights": Part(lambda seen: seen.weights, "{change}", _weights, True, is_rounding),
    "evaluations": Part(
        lambda seen: (len(seen.losses),),
        "the loss is evaluated {expected} times, and {found} times",
        check(
            "{left} != {right}",
            "{left} evaluated the loss {{{left}}} times, {right} {{{right}}} times",
            returns="len(losses)",
            setup="losses = []",
            notes={"loss": "losses.append(loss)"},
        ),
    ),
    "losses": Part(
        lambda seen: seen.losses,
        "loss{numbers}",
        check(
            UNLIKE,
            "the losses differ: {{{left}.tolist()}} in {left}, {{{right}.tolist()}} in {right}",
            returns="torch.stack(losses)",
            setup="losses = []",
            notes={"loss": "losses.append(loss.detach())"},
        ),
        rounds=is_rounding,
    ),
    "gradients": Part(
        lambda seen: seen.grads_after_backward,
        "the gradient of {change}",
        _gradients,
        True,
        is_rounding,
    ),
    "buffers": Part(
        lambda seen: (seen.buffers,),
        "a buffer of the model",
        _buffers,
        rounds=lambda trial, left, right: trial.allows_rounding,
    ),
    "states": Part(
        lambda seen: tuple(map(seen.states.get, range(len(seen.weights)))),
        "the optimizer's state of {name}",
        check(
            "{left} != {right}",
            "the state of {name} differs: {{{left}}} -> {{{right}}}",
            returns="{state}",
        ),
        True,
    ),
    "generators": Part(
        lambda seen: (seen.rng_state,),
        "the state of the random number generators",
        check(
            "not torch.equal({left}, {right})",
            "{left} and {right} leave the random number generator in different states: "
            "one draws where the other does not",
            returns="torch.get_rng_state()",
        ),
    ),
}


class Comparison:
    """How an invariant compares two trainings."""

    def __init__(self, says: str, expected: str, *, exact: bool = True) -> None:
        """`says`: what a difference means; `expected`: what must hold; both templates.

        `exact`: whether not even a subject's stated rounding is allowed.
        """
        self.exact = exact
        says += " {at} ({left} -> {right}): "
        self.kinds = {
            name: Kind(f"{name}-differ", says + part.message, expected, part.assertion)
            for name, part in PARTS.items()
        }

    def difference(
        self,
        trial: Trial,
        record: EventRecord,
        roles: tuple[Role, Role],
        parts: Sequence[PartName] = TRAINED,
        positions: Positions | None = None,
        since: int | None = None,
    ) -> Breach | None:
        """The first of these parts in which two roles differ.

        `positions`: the parameters whose weights and gradients are compared, by default all.
        """
        one, other = (record.observations[role] for role in roles)
        for name in parts:
            part = PARTS[name]
            left, right = part.values(one), part.values(other)
            if left == right or left is None or right is None:
                continue
            wanted = positions if part.by_parameter else None
            for i in range(len(left)) if wanted is None else wanted:
                x, y = left[i], right[i]
                if x != y and (self.exact or not part.rounds(trial, x, y)):
                    position = i if part.by_parameter else None
                    return self.kinds[name].breach(record, roles, position, x, y, since)
        return None
