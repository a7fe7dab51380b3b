"""B's leftover gradients are known exactly: the sum of the steps' gradients, in order."""

from frostproof.invariants.assertions import check
from frostproof.invariants.breach import HELD, Assertion, Judgements, Kind, ShownBreach
from frostproof.invariants.invariant import Invariant
from frostproof.spec.program import Step
from frostproof.training.observation import Bits, EventRecord, Grads, Trial

EXPECTED = "the gradient that B leaves on what is frozen is the sum of the steps', until cleared"


def _untouched(shown: ShownBreach) -> Assertion:
    # A list, as this may be inside a closure.
    found = check(
        "{tensor}.grad is None or not torch.equal(kept[-1], {tensor}.grad)",
        "the gradient that B left on {name} was touched before backward",
        "cleared",
        setup="kept = []",
    )(shown)
    found.notes[shown.breach.event - 1, "handed"] = [f"kept.append({shown.tensor}.grad.clone())"]
    return found


_SUMMED = check(
    "not torch.equal({left}[-1], due)",
    "the gradient that B leaves on {name} is {{{left}[-1].tolist()}}, and the sum {{due.tolist()}}",
    after=["due = sum({right}[1:], {left}[0])"],
    setup="grads = []",
    returns="grads",
    notes={
        "cleared": "grads.append(0 if {tensor}.grad is None else {tensor}.grad.clone())",
        "pass": "grads.append({tensor}.grad.clone())",
    },
)


TOUCHED = Kind(
    "touched",
    "the gradient that B left was touched before backward {at}: {change}",
    EXPECTED,
    _untouched,
)
NOT_THE_SUM = Kind(
    "not-the-sum",
    "the gradient that B leaves is not the sum of the steps' {at} (due -> found): {change}",
    EXPECTED,
    _SUMMED,
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    event, mask = record.event, record.mask
    if "cleared" not in record.observations or ("b", "cleared") in trial.diverged:
        return
    b, cleared = record.observations["b"], record.observations["cleared"]
    if not isinstance(event, Step) or not b.grads_after_zero_grad or not b.grads_after_backward:
        return
    frozen = [i for i in mask.forward if i in mask.backward]
    left = _left_before(trial, record) if event.zeroed_by == "optimizer" else None
    dense = [i for i in frozen if not trial.case.parameters[i].sparse]
    for i in dense if left is not None else ():
        if left[i] != b.grads_after_zero_grad[i]:
            yield TOUCHED.breach(record, "b", i, left[i], b.grads_after_zero_grad[i])
    for i in dense:
        due = b.grads_after_zero_grad[i]
        for fresh in cleared.grads_after_each_pass:
            due = _added(due, fresh[i], trial.case.dtype)
        if b.grads_after_backward[i] != due:
            found = b.grads_after_backward[i]
            yield NOT_THE_SUM.breach(record, ("b", "cleared"), i, due, found)
        yield HELD


def _left_before(trial: Trial, record: EventRecord) -> Grads | None:
    """B's gradients at its last step, where nothing else can have changed them since."""
    if record.number == 0 or not isinstance(trial.case.program[record.number - 1], Step):
        return None
    before = record.observations["b"].before
    return None if before.evaluations > 1 else before.grads_at_step


def _added(left: Bits | None, right: Bits | None, dtype: str) -> Bits | None:
    """The sum of two gradients, added in the parameters' dtype as autograd does."""
    from frostproof.training.bits import added

    if left is None or right is None:
        return right if left is None else left
    return added(left, right, dtype)


INVARIANT = Invariant(
    "stale-grads-accumulate",
    "B: p.grad of frozen p is the in-order sum of the steps' gradients, bitwise, until cleared",
    judge,
    "https://discuss.pytorch.org/t/58156",
    compares=True,
    needs_optimizer=False,
)
