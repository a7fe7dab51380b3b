"""A parameter trains as under an optimizer of its own: no other one can change what it does."""

from frostproof.invariants.invariant import Invariant, Judgements
from frostproof.invariants.pairs import Comparison
from frostproof.spec.program import Step
from frostproof.training.observation import EventRecord, Trial

AS_ALONE = Comparison(
    "beside other parameters a parameter trains unlike under an optimizer of its own"
    "{unlike_counts}",
    exact=False,
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    observed = record.observations["a"]
    beside = observed.optimizer_called and len(observed.owned) > 1
    if beside and isinstance(record.event, Step):
        yield from AS_ALONE.compare(trial, record, ("a", "alone"), ("weights",))


INVARIANT = Invariant(
    "trains-as-alone",
    "each parameter, fed the same gradients, has the bits that it has under an optimizer of its "
    "own, which holds no other parameter",
    judge,
    "https://docs.pytorch.org/docs/stable/optim.html#per-parameter-options",
    compares=True,
    freezing=False,
    violation_class="groups",
    mend="keep state and counts for each parameter, and share no cache among groups with other "
    "settings",
)
