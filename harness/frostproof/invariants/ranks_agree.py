"""Ranks that train together stay alike: the same weights in all of them after every event."""

from frostproof.invariants.invariant import HELD, Invariant, Judgements, Kind
from frostproof.training.observation import EventRecord, Trial

GATHER = (
    "mine = {tensor}.detach().contiguous()",
    "gathered = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]",
    "torch.distributed.all_gather(gathered, mine)",
)
APART = Kind(
    "apart",
    "the ranks have different weights",
    "not all(torch.equal(mine.view(torch.{integer}), p.view(torch.{integer})) for p in gathered)",
    where=" {where} (rank 0 -> another): {change}",
    after=GATHER,
    shows=" in {name}: {{[p.flatten().tolist() for p in gathered]}}",
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    apart = _have_unlike_batches(trial)
    for others in record.others:
        for role, observed in record.observations.items():
            for i, (mine, theirs) in enumerate(
                zip(observed.weights, others[role].weights, strict=True)
            ):
                # The forward pass of an embedding may rewrite the rows that its rank has used.
                if mine != theirs and not trial.case.parameters[i].renormed:
                    yield APART.breach(record, role, i, mine, theirs)
                if apart:
                    yield HELD


def _have_unlike_batches(trial: Trial) -> bool:
    """Whether two ranks had unlike losses. With one batch for all, they agree whatever happens."""
    return any(
        record.observations["a"].losses != other["a"].losses
        for record in trial.records
        for other in record.others
    )


INVARIANT = Invariant(
    "ranks-agree",
    "ranks that train together have the same weights, bit for bit, after every event",
    judge,
    "https://docs.pytorch.org/docs/stable/notes/ddp.html",
    applies_in=lambda setting: setting.ranks > 1,
    freezing=False,
    mend="make the same collective calls on each rank, whichever parameters have a gradient there",
)
