"""A frozen module in eval mode keeps its buffers; in train mode batch statistics legitimately drift."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Assertion, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.training.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    judgement: Judgement = NOT_JUDGED
    for role, seen in moment.seen.items():
        before = trial.buffers_before(moment, role)
        for i in seen.held:
            if seen.buffers[i] != before[i]:
                return Breach(CHANGED, (role,), moment.number, expected=i)
            judgement = HELD
    return judgement


def _kept(shown: Shown) -> Assertion:
    buffer = f"list(model.buffers())[{shown.breach.expected}]"
    found = shown.noted(
        "a frozen module in eval mode keeps its buffers", "before", f"before = {buffer}.clone()"
    )
    text = "a buffer of a frozen module in eval mode changed: {before.tolist()} -> {after.tolist()}"
    found.verdict = [f"after = {buffer}", shown.exits_if("not torch.equal(before, after)", text)]
    return found


CHANGED = Kind(
    "changed",
    lambda shown: f"a buffer of a frozen module in eval mode changed {shown.where}",
    _kept,
)

INVARIANT = Invariant(
    id="buffers-hold-in-eval",
    statement="buffers of a frozen module in eval mode keep their bits",
    severity="wrong",
    source="https://github.com/pytorch/pytorch/issues/86590",
    judge=judge,
    needs_optimizer=False,
)
