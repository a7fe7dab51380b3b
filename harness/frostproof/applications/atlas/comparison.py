"""Whether two ways to freeze train to the same bits in the same case."""

from __future__ import annotations

from typing import NamedTuple

from frostproof.approaches.approach import Alone, Approach, Approaches
from frostproof.errors import UnprintableError
from frostproof.invariants.assertions import RAISES
from frostproof.invariants.invariant import HELD, Breach, Invariant, Judgements, ShownBreach
from frostproof.invariants.messages import at, change
from frostproof.invariants.pairs import Comparison
from frostproof.invariants.tolerance import rounding
from frostproof.spec.case import Case, Positions
from frostproof.spec.program import Step
from frostproof.spec.subject import Subject
from frostproof.training.observation import Bits, EventRecord, Grads, Trial, picker
from frostproof.trial.lockstep import run_trial


class TrialDifference(NamedTuple):
    message: str
    """The first difference, with numbers."""
    cause: str
    """What the trial shows to have caused it."""
    ulp: float | None
    """The largest difference in units in the last place if all are due to rounding, else None."""


def train_one_way(case: Case, subject: Subject, way: Approach, device: str) -> Trial:
    """Train the case with one way to freeze. Every way sees the same seeds and batches."""
    return run_trial(case, subject, device, (), Alone(a=way)).trial


def compare_trials(one: Trial, other: Trial) -> TrialDifference | None:
    """The difference of two trials of one case.

    None if all weights, losses and buffers have the same bits, or if both trials raise the same
    error.
    """
    records = zip(one.records, other.records, strict=False)
    found = [_compare_records(one, other, left, right) for left, right in records]
    differences = [each for each in found if each is not None]
    large = next((each for each in differences if each.ulp is None), None)
    if large is not None:
        amplified = differences[0].ulp is not None
        cause = "the optimizer amplifies rounding differences" if amplified else large.cause
        return large._replace(cause=cause)
    if crash := _compare_crashes(one, other):
        return crash
    if differences:
        return differences[0]._replace(ulp=max(each.ulp or 0.0 for each in differences))
    return None


def _compare_crashes(one: Trial, other: Trial) -> TrialDifference | None:
    """The earlier crash of the two, unless both trials raise the same error or neither does."""
    crashes = [
        (trial.crash.index, str(trial.crash), trial)
        for trial in (one, other)
        if trial.crash is not None
    ]
    if not crashes or (len(crashes) == 2 and crashes[0][:2] == crashes[1][:2]):
        return None
    raising = min(crashes, key=lambda crash: crash[0])[2]
    assert raising.crash is not None
    name, text = raising.names["a"], f"{raising.crash.phase} raises {raising.crash}"
    return TrialDifference(f"{name}: {text}", f"{name}: {text.partition('. ')[0]}", None)


def _compare_records(
    one: Trial, other: Trial, left: EventRecord, right: EventRecord
) -> TrialDifference | None:
    a, b = left.observations["a"], right.observations["a"]
    if (a.weights, a.losses, a.buffers) == (b.weights, b.losses, b.buffers):
        return None
    pairs = [
        *zip(a.weights, b.weights, strict=True),
        *zip(a.losses, b.losses, strict=False),
        *zip(a.buffers, b.buffers, strict=False),
    ]
    sizes = [_rounding_ulp(x, y, one.case.dtype) for x, y in pairs]
    ulp = None if None in sizes else max(size or 0.0 for size in sizes)
    return TrialDifference(_message(one, other, left, right), _cause(one, other, left, right), ulp)


def _rounding_ulp(left: Bits, right: Bits, dtype: str) -> float | None:
    """The difference in units in the last place, or None.

    It is None if the difference is larger than rounding, or if the two tensors differ in size.
    """
    if left == right:
        return 0.0
    return rounding(left, right, dtype) if len(left) == len(right) else None


def _message(one: Trial, other: Trial, left: EventRecord, right: EventRecord) -> str:
    a, b = left.observations["a"], right.observations["a"]
    where = f"{at(left)} ({one.names['a']} -> {other.names['a']})"
    for i in (*left.mask.at_step, *left.mask.trainable):
        if a.weights[i] != b.weights[i]:
            kind = "frozen" if i in left.mask.at_step else "trainable"
            numbers = change(one, i, a.weights[i], b.weights[i])
            return f"a {kind} parameter differs {where}: {numbers}"
    return f"the {'loss differs' if a.losses != b.losses else 'buffers differ'} {where}"


def _cause(one: Trial, other: Trial, left: EventRecord, right: EventRecord) -> str:
    """The first stage of a training step, in its order, at which the two trials differ."""
    a, b = left.observations["a"], right.observations["a"]
    for trial, record in ((one, left), (other, right)):
        for i in record.mask.at_step:
            if record.observations["a"].weights[i] != trial.starts["a"].weights[i]:
                return f"{trial.names['a']} moves frozen parameters: {_why_moved(record, i)}"
    trainable = left.mask.trainable
    same_gradients = _same_up_to_rounding(
        one, a.grads_after_backward, b.grads_after_backward, trainable
    )
    same_at_step = _same_up_to_rounding(one, a.grads_at_step, b.grads_at_step, trainable)
    clips = isinstance(left.event, Step) and left.event.clips
    if clips and same_gradients and not same_at_step:
        return "clipping counts the gradients of frozen parameters"
    if picker(trainable)(a.grads_at_step or ()) == picker(trainable)(b.grads_at_step or ()):
        return "the optimizer reads more than the gradients of trainable parameters"
    if a.losses[:1] != b.losses[:1]:
        return "the forward pass chooses its kernels by requires_grad"
    return "the backward pass sums in another order"


def _same_up_to_rounding(
    trial: Trial, left: Grads | None, right: Grads | None, positions: Positions
) -> bool:
    """Whether the gradients at these positions are equal, or differ by rounding."""
    if left is None or right is None:
        return left is right
    return all(_close(left[i], right[i], trial.case.dtype) for i in positions)


def _close(left: Bits | None, right: Bits | None, dtype: str) -> bool:
    if left is None or right is None:
        return left is right
    return _rounding_ulp(left, right, dtype) is not None


def _why_moved(record: EventRecord, i: int) -> str:
    gradients = record.observations["a"].grads_at_step
    if gradients is None or gradients[i] is None:
        return "the optimizer moves them without a gradient"
    if not any(gradients[i] or b""):
        return "zeros count as a gradient, so decay or momentum moves them"
    return "the optimizer gets their gradients"


def reproduce_difference(
    case: Case, subject: Subject, device: str, left: Approach, right: Approach
) -> ShownBreach:
    """Run the two ways in one trial, and return its difference, of which a script can be made.

    Raises UnprintableError if this trial shows no difference.
    """
    outcome = run_trial(case, subject, device, (EQUIVALENT,), Approaches(a=left, b=right))
    if EQUIVALENT in outcome.violated:
        return outcome.violated[EQUIVALENT]
    crash, names = outcome.trial.crash, outcome.trial.names
    if crash is None:
        raise UnprintableError("the same case, run once more, shows no difference")
    other = names["b" if crash.role == "a" else "a"]
    expected = f"freezing the same parameters by {other} does not raise"
    breach = Breach(RAISES, (crash.role,), crash.index, expected=expected)
    return ShownBreach(outcome.trial, breach, EQUIVALENT, device)


_WAYS = Comparison("they differ")


def _judge(trial: Trial, record: EventRecord) -> Judgements:
    yield from _WAYS.differences(trial, record, ("a", "b"), ("weights", "losses", "buffers"))
    yield HELD


EQUIVALENT = Invariant(
    id="equivalent",
    statement="two ways to freeze the same layers give every weight, loss and buffer the same bits",
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judgements=_judge,
)
"""What the scripts of the atlas assert. It is about ways, so no optimizer can violate it."""
