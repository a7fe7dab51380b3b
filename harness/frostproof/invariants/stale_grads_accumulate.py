"""B's leftover gradients are known exactly: the sum of the steps' gradients, in order."""

from frostproof.invariants.assertions import UNLIKE
from frostproof.invariants.invariant import (
    HELD,
    Assertion,
    Invariant,
    Judgements,
    Kind,
    ShownBreach,
)
from frostproof.spec.program import Step
from frostproof.training.observation import EventRecord, Grads, Trial


class _Touched(Kind):
    def assertion(self, shown: ShownBreach) -> Assertion:
        found = super().assertion(shown)
        found.notes[shown.breach.event - 1, "handed"] = [f"kept.append({shown.gradient}.clone())"]
        return found


TOUCHED = _Touched(
    "touched",
    "the gradient that B left on {name} was touched before backward",
    "{grad} is None or " + UNLIKE.format(left="kept[-1]", right="{gradient}", integer="{integer}"),
    "cleared",
    where=" {at}: {change}",
    setup="kept = []",  # a list, as this may be inside a closure
)
NOT_THE_SUM = Kind(
    "not-the-sum",
    "the gradient that B leaves on {name} is not the sum of the steps'",
    "not torch.allclose({left}[-1], due, rtol=0, atol=0, equal_nan=True)",
    where=" {at} (due -> found): {change}",
    shows=": {{{left}[-1].tolist()}}, and the sum {{due.tolist()}}",
    notes={
        "cleared": "grads.append(0 if {grad} is None else {gradient}.clone())",
        "pass": "grads.append({gradient}.clone())",
    },
    after=["due = sum({right}[1:], {left}[0])"],
    setup="grads = []",
    returns="grads",
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    from frostproof.training.bits import added

    event, mask = record.event, record.mask
    if "cleared" not in record.observations or ("b", "cleared") in trial.diverged:
        return
    b, cleared = record.observations["b"], record.observations["cleared"]
    before, after = b.grads_after_zero_grad, b.grads_after_backward
    if not isinstance(event, Step) or before is None or after is None:
        return
    frozen = [i for i in mask.in_forward if i in mask.in_backward]
    dense = [i for i in frozen if not trial.case.parameters[i].sparse]
    left = _left_before(trial, record) if event.zeroed_by == "optimizer" else None
    for i in dense:
        if left is not None and left[i] != before[i]:
            yield TOUCHED.breach(record, "b", i, left[i], before[i])
    for i in dense:
        due = before[i]
        for fresh in (grads[i] for grads in cleared.grads_after_each_pass):
            if due is None or fresh is None:
                due = fresh if due is None else due
            else:
                due = added(due, fresh, trial.case.dtype)
        if after[i] != due:
            yield NOT_THE_SUM.breach(record, ("b", "cleared"), i, due, after[i])
        yield HELD


def _left_before(trial: Trial, record: EventRecord) -> Grads | None:
    """B's gradients at its last step, where nothing else can have changed them since."""
    if record.number == 0 or not isinstance(trial.case.program[record.number - 1], Step):
        return None
    before = record.observations["b"].before
    return None if before.evaluations > 1 else before.grads_at_step


INVARIANT = Invariant(
    "stale-grads-accumulate",
    "in B, the gradient of a frozen parameter is bit for bit the sum of the steps' gradients, in "
    "their order, until it is cleared",
    judge,
    "https://discuss.pytorch.org/t/58156",
    compares=True,
    needs_optimizer=False,
    mend="leave the gradients of parameters alone that the optimizer does not own",
)
