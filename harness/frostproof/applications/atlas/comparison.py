"""Two ways to freeze, through the same case: whether they train alike bit for bit, and if not, what told them apart."""

from __future__ import annotations

from typing import NamedTuple

from frostproof.approaches.approach import Alone, Approach, Approaches
from frostproof.errors import UnprintableError
from frostproof.invariants.breach import HELD, RAISES, Breach, Judgement, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.messages import at, change
from frostproof.invariants.pairs import Comparison
from frostproof.invariants.tolerance import rounding
from frostproof.spec.case import Case, Positions
from frostproof.spec.program import Step
from frostproof.spec.subject import Subject
from frostproof.training.observation import Bits, Grads, Moment, Trial, picker
from frostproof.trial.lockstep import run_trial


class Difference(NamedTuple):
    """`message`: what differs first, with numbers; `cause`: what made it, as seen in the trial; `ulp`: how large it is at most,
    in units in the last place, where it never is more than rounding, else None."""

    message: str
    cause: str
    ulp: float | None


def trained(case: Case, subject: Subject, way: Approach, device: str) -> Trial:
    """The case under one way to freeze. Every way sees the same seeds and batches, event by event."""
    return run_trial(case, subject, device, (), Alone(a=way)).trial


def difference(one: Trial, other: Trial) -> Difference | None:
    """What tells two trials of one case apart; None where every weight, loss and buffer has the same bits, or both raise the same."""
    crashes = [
        None if trial.crash is None else (trial.crash.index, str(trial.crash))
        for trial in (one, other)
    ]
    found = [
        _at(one, other, left, right)
        for left, right in zip(one.moments, other.moments, strict=False)
    ]
    differences = [each for each in found if each is not None]
    if grave := next((each for each in differences if each.ulp is None), None):
        return (
            grave._replace(cause="an optimizer that makes more of rounding")
            if differences[0].ulp is not None
            else grave
        )
    if crashes[0] != crashes[1]:
        raising = (
            one
            if other.crash is None
            or (one.crash is not None and one.crash.index <= other.crash.index)
            else other
        )
        assert raising.crash is not None
        text = f"{raising.crash.phase} raises {raising.crash}"
        return Difference(
            f"{raising.names['a']}: {text}",
            f"{raising.names['a']}: {text.partition('. ')[0]}",
            None,
        )
    if differences:
        return differences[0]._replace(ulp=max(each.ulp or 0.0 for each in differences))
    return None


def _at(one: Trial, other: Trial, left: Moment, right: Moment) -> Difference | None:
    a, b = left.seen["a"], right.seen["a"]
    if (a.weights, a.losses, a.buffers) == (b.weights, b.losses, b.buffers):
        return None
    pairs = [
        *zip(a.weights, b.weights, strict=True),
        *zip(a.losses, b.losses, strict=False),
        *zip(a.buffers, b.buffers, strict=False),
    ]
    sizes = [_rounded(x, y, one.case.dtype) for x, y in pairs]
    ulp = None if None in sizes else max(size or 0.0 for size in sizes)
    return Difference(_message(one, other, left, right), _cause(one, other, left, right), ulp)


def _rounded(left: Bits, right: Bits, dtype: str) -> float | None:
    """The difference in units in the last place; None where it is no rounding, or these are no two tensors of one size."""
    if left == right:
        return 0.0
    return rounding(left, right, dtype) if len(left) == len(right) else None


def _message(one: Trial, other: Trial, left: Moment, right: Moment) -> str:
    a, b = left.seen["a"], right.seen["a"]
    names = f"{one.names['a']} -> {other.names['a']}"
    for i in (*left.mask.at_step, *left.mask.trainable):
        if a.weights[i] != b.weights[i]:
            kind = "frozen" if i in left.mask.at_step else "trainable"
            return f"a {kind} parameter differs {at(left)} ({names}): {change(one, i, a.weights[i], b.weights[i])}"
    return (
        f"the {'loss differs' if a.losses != b.losses else 'buffers differ'} {at(left)} ({names})"
    )


def _cause(one: Trial, other: Trial, left: Moment, right: Moment) -> str:
    """The first in the order of a training step at which the two are not the same."""
    a, b = left.seen["a"], right.seen["a"]
    for trial, moment in ((one, left), (other, right)):
        for i in moment.mask.at_step:
            if moment.seen["a"].weights[i] != trial.starts["a"].weights[i]:
                return f"{trial.names['a']} moves what is frozen: {_handed(trial, moment, i)}"
    trainable = left.mask.trainable
    alike = [
        _alike(one, x, y, trainable) for x, y in ((a.gradients, b.gradients), (a.handed, b.handed))
    ]
    if isinstance(left.event, Step) and left.event.clips and alike == [True, False]:
        return "clipping counts the gradients of what is frozen"
    if picker(trainable)(a.handed or ()) == picker(trainable)(b.handed or ()):
        return "the optimizer looks at more than the gradients of what trains"
    if a.losses[:1] != b.losses[:1]:
        return "the forward pass chooses other kernels by requires_grad"
    return "the backward pass adds up in another order"


def _alike(trial: Trial, left: Grads | None, right: Grads | None, positions: Positions) -> bool:
    """Whether the gradients at these positions are equal, or differ by rounding."""
    if left is None or right is None:
        return left is right
    pairs = [(left[i], right[i]) for i in positions]
    return all(
        x == y or (x is not None and y is not None and _rounded(x, y, trial.case.dtype) is not None)
        for x, y in pairs
    )


def _handed(trial: Trial, moment: Moment, i: int) -> str:
    handed = moment.seen["a"].handed
    if handed is None or handed[i] is None:
        return "the optimizer moves it without a gradient"
    if not any(handed[i] or b""):
        return "zeros are a gradient too, and decay or momentum move it"
    return "the optimizer is handed its gradient"


def difference_shown(
    case: Case, subject: Subject, device: str, left: Approach, right: Approach
) -> Shown:
    """The same comparison for two ways in one trial, as a script is made from. Raises UnprintableError where it shows nothing."""
    outcome = run_trial(case, subject, device, (EQUIVALENT,), Approaches(a=left, b=right))
    if EQUIVALENT in outcome.violated:
        return outcome.violated[EQUIVALENT]
    crash, names = outcome.trial.crash, outcome.trial.names
    if crash is None:
        raise UnprintableError("the same case, run once more, shows no difference")
    expected = f"freezing the same by {names['b' if crash.role == 'a' else 'a']} it does not raise"
    return Shown(
        outcome.trial,
        Breach(RAISES, (crash.role,), crash.index, expected=expected),
        EQUIVALENT.id,
        device,
    )


_WAYS = Comparison(
    "they differ",
    "two ways to freeze the same layers, equivalent if all weights, losses and buffers have the same bits",
)


def _judge(trial: Trial, moment: Moment) -> Judgement:
    return _WAYS.differing(trial, moment, ("a", "b"), ("weights", "losses", "buffers")) or HELD


EQUIVALENT = Invariant(
    id="equivalent",
    statement="two ways to freeze the same layers leave every weight, loss and buffer with the same bits",
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=_judge,
)
"""Not an invariant of an optimizer, which cannot help it: what a script asserts of two ways to freeze."""
