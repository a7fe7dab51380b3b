"""Two trainings side by side: what differs first, and how that is said and asserted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from frostproof.invariants.breach import Assertion, Breach, Kind, Shown
from frostproof.invariants.messages import at, numbers
from frostproof.invariants.tolerance import is_rounding
from frostproof.spec.architecture import expression
from frostproof.spec.case import Positions
from frostproof.training.observation import Bits, Moment, Observation, Trial, picker
from frostproof.training.source import block

Part = Literal["weights", "losses", "gradients", "buffers", "states", "generators"]

LABELS = {
    ("a", "again"): ("once", "again"),
    ("a", "resumed"): ("straight", "resumed"),
    ("b", "resumed-b"): ("straight", "resumed"),
    ("b", "cleared"): ("B", "cleared"),
    ("b", "second"): ("B", "second"),
    ("b", "rebuilt"): ("B", "rebuilt"),
}


def labels(trial: Trial, roles: Sequence[str]) -> tuple[str, str]:
    """What people and scripts call two trainings: A and B by the names of their approaches, as identifiers."""
    one, other = roles
    if (one, other) in LABELS:
        return LABELS[one, other]
    return trial.names[one].replace("-", "_"), trial.names[other].replace("-", "_")


Alike = Callable[[Trial, Bits | None, Bits | None], bool]


class Comparison:
    """How an invariant compares two trainings. `says`: what a difference means; `expected`: what a script says must hold; `exact`:
    whether not even a subject's stated rounding is allowed."""

    def __init__(self, says: str, expected: str, *, exact: bool = True) -> None:
        self.alike: Alike = (lambda trial, left, right: False) if exact else is_rounding

        def kind(
            id: str, message: Callable[[Shown], str], assertion: Callable[[Shown], Assertion]
        ) -> Kind:
            def sentence(shown: Shown) -> str:
                left, right = labels(shown.trial, shown.breach.roles)
                text = says.format(
                    left=left, right=right, a=shown.trial.names["a"], since=shown.breach.since
                )
                return f"{text} {at(shown.moment)} ({left} -> {right}): {message(shown)}"

            def asserted(shown: Shown) -> Assertion:
                found = assertion(shown)
                found.expected = expected
                return found

            return Kind(id, sentence, asserted)

        self.kinds: dict[str, Kind] = {
            "weights": kind("weights-differ", lambda shown: shown.change, _weights),
            "evaluations": kind("evaluations-differ", _evaluations_said, _evaluations),
            "losses": kind("losses-differ", _losses_said, _losses),
            "gradients": kind(
                "gradients-differ", lambda shown: f"the gradient of {shown.change}", _gradients
            ),
            "buffers": kind("buffers-differ", lambda shown: "a buffer of the model", _buffers),
            "states": kind(
                "states-differ", lambda shown: f"the optimizer's state of {shown.name}", _states
            ),
            "generators": kind(
                "generators-differ",
                lambda shown: "the state of the random number generators",
                _generators,
            ),
        }

    def breach(
        self,
        moment: Moment,
        roles: tuple[str, str],
        part: str,
        i: int | None = None,
        values: Sequence[Any] = (None, None),
        since: int | None = None,
    ) -> Breach:
        return Breach(
            self.kinds[part],
            roles,
            moment.number,
            () if i is None else (i,),
            values[0],
            values[1],
            since,
        )

    def differing(
        self,
        trial: Trial,
        moment: Moment,
        roles: tuple[str, str],
        parts: Sequence[Part],
        positions: Positions | None = None,
        since: int | None = None,
    ) -> Breach | None:
        """The first of these parts in which two roles differ, by more than rounding where the subject allows for that.

        `positions`: of the parameters whose weights and gradients are compared, all where none are given.
        """
        one, other = (moment.seen[role] for role in roles)
        for part in parts:
            found = _DIFFERENCES[part](trial, one, other, positions, self.alike)
            if found is not None:
                part_found, i, *values = found
                return self.breach(moment, roles, part_found, i, values, since)
        return None


Found = tuple[str, int | None, Any, Any]
Differ = Callable[[Trial, Observation, Observation, Positions | None, Alike], Found | None]


def first_unlike(
    trial: Trial,
    left: Sequence[Any],
    right: Sequence[Any],
    positions: Positions | None,
    alike: Alike,
) -> int | None:
    """The first position at which two tensors differ by more than is allowed; None where they agree."""
    where = tuple(range(len(left))) if positions is None else positions
    take = picker(where)
    if take(left) == take(right):
        return None
    return next(
        (i for i in where if left[i] != right[i] and not alike(trial, left[i], right[i])), None
    )


def _tensors_differ(part: Literal["weights", "gradients"]) -> Differ:
    def differ(
        trial: Trial,
        one: Observation,
        other: Observation,
        positions: Positions | None,
        alike: Alike,
    ) -> Found | None:
        left, right = getattr(one, part), getattr(other, part)
        if left == right or left is None or right is None:
            return None
        i = first_unlike(trial, left, right, positions, alike)
        return None if i is None else (part, i, left[i], right[i])

    return differ


def _losses_differ(
    trial: Trial, one: Observation, other: Observation, positions: Positions | None, alike: Alike
) -> Found | None:
    if len(one.losses) != len(other.losses):
        return "evaluations", None, len(one.losses), len(other.losses)
    pairs = zip(one.losses, other.losses, strict=True)
    return next(
        (
            ("losses", None, *pair)
            for pair in pairs
            if pair[0] != pair[1] and not alike(trial, *pair)
        ),
        None,
    )


def _buffers_differ(
    trial: Trial, one: Observation, other: Observation, positions: Positions | None, alike: Alike
) -> Found | None:
    return (
        ("buffers", None, None, None)
        if one.buffers != other.buffers and not (trial.allows_rounding and alike is is_rounding)
        else None
    )


def _states_differ(
    trial: Trial, one: Observation, other: Observation, positions: Positions | None, alike: Alike
) -> Found | None:
    return next(
        (("states", i, None, None) for i in one.states if one.states[i] != other.states.get(i)),
        None,
    )


def _generators_differ(
    trial: Trial, one: Observation, other: Observation, positions: Positions | None, alike: Alike
) -> Found | None:
    return ("generators", None, None, None) if one.generators != other.generators else None


_DIFFERENCES: dict[Part, Differ] = {
    "weights": _tensors_differ("weights"),
    "gradients": _tensors_differ("gradients"),
    "losses": _losses_differ,
    "buffers": _buffers_differ,
    "states": _states_differ,
    "generators": _generators_differ,
}


def _losses_said(shown: Shown) -> str:
    return f"loss{numbers(shown.case.dtype, shown.breach.expected, shown.breach.found)}"


def _evaluations_said(shown: Shown) -> str:
    return f"the loss is evaluated {shown.breach.expected} times, and {shown.breach.found} times"


def _two(shown: Shown, returns: str) -> tuple[Assertion, str, str]:
    """An assertion that trains twice, and the names of the two results."""
    left, right = labels(shown.trial, shown.breach.roles)
    return (
        Assertion(
            "", returns=returns, verdict=[f'{left}, {right} = train("{left}"), train("{right}")']
        ),
        left,
        right,
    )


def _weights(shown: Shown) -> Assertion:
    found, left, right = _two(shown, f"{shown.tensor}.detach()")
    if shown.breach.roles[1] == "again":
        # A second model in the place of the first would hide what depends on where its parameters are.
        found.returns += ", model"
        found.verdict = [f'({left}, _), ({right}, _) = train("{left}"), train("{right}")']
    found.verdict.append(shown.differ(left, right, f"{left} -> {right} differ in"))
    return found


def _evaluations(shown: Shown) -> Assertion:
    found, left, right = _two(shown, "len(losses)")
    found.setup = ["losses = []"]
    found.notes[shown.breach.event, "loss"] = ["losses.append(loss)"]
    text = f"{left} evaluated the loss {{{left}}} times, {right} {{{right}}} times"
    found.verdict.append(shown.exits_if(f"{left} != {right}", text))
    return found


def _losses(shown: Shown) -> Assertion:
    found, left, right = _two(shown, "torch.stack(losses)")
    found.setup = ["losses = []"]
    found.notes[shown.breach.event, "loss"] = ["losses.append(loss.detach())"]
    text = f"the losses differ: {{{left}.tolist()}} in {left}, {{{right}.tolist()}} in {right}"
    found.verdict.append(shown.exits_if(shown.unlike(left, right), text))
    return found


def _gradients(shown: Shown) -> Assertion:
    # In a list, since a closure has names of its own; the first counts, as it may be called again.
    there = shown.breach.expected is not None and shown.breach.found is not None
    found, left, right = _two(shown, "grads[0]" if there else "grads[0] is not None")
    found.setup = ["grads = []"]
    found.notes[shown.breach.event, "gradients"] = [
        f"grads.append({shown.tensor}.grad{'.to_dense().clone()' if there else ''})"
    ]
    if there:
        found.verdict.append(
            shown.differ(left, right, f"{left} -> {right} differ in the gradient of")
        )
    else:
        text = f"whether {shown.name} has a gradient differs: {{{left}}} in {left}, {{{right}}} in {right}"
        found.verdict.append(shown.exits_if(f"{left} != {right}", text))
    return found


def _buffers(shown: Shown) -> Assertion:
    found, left, right = _two(shown, "[buffer.clone() for buffer in model.buffers()]")
    test = shown.exits_if(
        "not torch.equal(old, new)", "buffers differ: {old.tolist()} -> {new.tolist()}"
    )
    found.verdict.append(block(f"for old, new in zip({left}, {right}):", test))
    return found


def _states(shown: Shown) -> Assertion:
    found, left, right = _two(shown, state_of(shown))
    found.verdict.append(
        shown.exits_if(
            f"{left} != {right}", f"the state of {shown.name} differs: {{{left}}} -> {{{right}}}"
        )
    )
    return found


def _generators(shown: Shown) -> Assertion:
    found, left, right = _two(shown, "torch.get_rng_state()")
    text = f"{left} and {right} leave the random number generator in different states: one draws where the other does not"
    found.verdict.append(shown.exits_if(f"not torch.equal({left}, {right})", text))
    return found


def state_of(shown: Shown) -> str:
    """An expression for what the optimizer knows of the first parameter, as plain values."""
    items = f"optimizer.state.get({expression(shown.name)}, {{}}).items()"
    return f"{{key: str(v.tolist() if torch.is_tensor(v) else v) for key, v in {items}}}"
