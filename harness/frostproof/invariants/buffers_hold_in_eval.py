"""A frozen module in eval mode keeps its buffers; in train mode batch statistics legitimately drift."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at
from frostproof.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    judgement = NOT_JUDGED
    for role, seen in moment.seen.items():
        before = trial.buffers_before(moment, role)
        for i in seen.held:
            if seen.buffers[i] != before[i]:
                return f"a buffer of a frozen module in eval mode changed {at(moment)}, approach {trial.names[role]}"
            judgement = HELD
    return judgement


INVARIANT = Invariant(
    id="buffers-hold-in-eval",
    statement="buffers of a frozen module in eval mode keep their bits",
    severity="wrong",
    source="https://github.com/pytorch/pytorch/issues/86590",
    judge=judge,
    needs_optimizer=False,
)
