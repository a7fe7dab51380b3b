"""What B leaves behind is exactly known: the sum of the steps' gradients, in order."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Assertion, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.spec.program import Step
from frostproof.training.observation import Bits, Grads, Moment, Trial

EXPECTED = "the gradient that B leaves on what is frozen is the sum of the steps', until cleared"


def judge(trial: Trial, moment: Moment) -> Judgement:
    event = moment.event
    if "cleared" not in moment.seen or not isinstance(event, Step):
        return NOT_JUDGED
    case, during = trial.case, moment.mask
    dense = [
        i for i in during.in_forward if i in during.in_backward and not case.parameters[i].sparse
    ]
    b, cleared = moment.seen["b"], moment.seen["cleared"]
    if not dense or b.cleared is None or b.gradients is None or ("b", "cleared") in trial.parted:
        return NOT_JUDGED
    if event.zeroed_by == "optimizer":
        left = _left_before(trial, moment)
        for i in dense:
            if left is not None and left[i] != b.cleared[i]:
                return Breach(TOUCHED, ("b",), moment.number, (i,), left[i], b.cleared[i])
    due = b.cleared
    for fresh in cleared.passes:
        due = _added(trial, dense, due, fresh)
    for i in dense:
        if b.gradients[i] != due[i]:
            return Breach(
                NOT_THE_SUM, ("b", "cleared"), moment.number, (i,), due[i], b.gradients[i]
            )
    return HELD


def _left_before(trial: Trial, moment: Moment) -> Grads | None:
    """The gradients of B as its last step was handed them, where nothing else can have changed them since."""
    if moment.number == 0 or not isinstance(trial.case.program[moment.number - 1], Step):
        return None
    seen = trial.moments[moment.number - 1].seen["b"]
    return None if seen.evaluations > 1 else seen.handed


def _added(trial: Trial, positions: list[int], old: Grads, fresh: Grads) -> Grads:
    """The gradients of before plus the fresh ones, added in the parameters' dtype as autograd does."""
    from frostproof.training.bits import added

    due: list[Bits | None] = [None] * len(fresh)
    for i in positions:
        left, right = old[i], fresh[i]
        due[i] = (
            right
            if left is None
            else left
            if right is None
            else added(left, right, trial.case.dtype)
        )
    return tuple(due)


def _untouched(shown: Shown) -> Assertion:
    grad = f"{shown.tensor}.grad"
    text = f"the gradient that B left on {shown.name} was touched before backward"
    # A list, as this may be inside a closure.
    found = shown.noted(
        EXPECTED,
        "cleared",
        shown.exits_if(f"{grad} is None or not torch.equal(kept[-1], {grad})", text),
    )
    found.notes[shown.breach.event - 1, "handed"] = [f"kept.append({grad}.clone())"]
    found.setup = ["kept = []"]
    return found


def _summed(shown: Shown) -> Assertion:
    grad = f"{shown.tensor}.grad"
    found = shown.noted(
        EXPECTED, "cleared", f"grads.append(0 if {grad} is None else {grad}.clone())"
    )
    found.notes[shown.breach.event, "pass"] = [f"grads.append({grad}.clone())"]
    found.setup, found.returns = ["grads = []"], "grads"
    text = f"the gradient that B leaves on {shown.name} is {{left[-1].tolist()}}, and the sum {{due.tolist()}}"
    found.verdict = [
        'left, fresh = train("B"), train("cleared")',
        "due = sum(fresh[1:], left[0])",
        shown.exits_if("not torch.equal(left[-1], due)", text),
    ]
    return found


TOUCHED = Kind(
    "touched",
    lambda shown: (
        f"the gradient that B left was touched before backward {shown.at}: {shown.change}"
    ),
    _untouched,
)
NOT_THE_SUM = Kind(
    "not-the-sum",
    lambda shown: (
        f"the gradient that B leaves is not the sum of the steps' {shown.at} (due -> found): {shown.change}"
    ),
    _summed,
)

INVARIANT = Invariant(
    id="stale-grads-accumulate",
    statement="B: p.grad of frozen p is the in-order sum of the steps' gradients, bitwise, until cleared",
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=judge,
    compares=True,
    needs_optimizer=False,
)
