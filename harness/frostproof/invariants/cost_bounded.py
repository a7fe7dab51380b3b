"""Freezing by requires_grad spares work, and never adds any."""

from collections import Counter
from collections.abc import Iterator

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at
from frostproof.layers import GRU, Embedding, Layer
from frostproof.observation import Moment, Trial
from frostproof.program import Step


def judge(trial: Trial, moment: Moment) -> Judgement:
    a, b = moment.seen["a"].cost, moment.seen["b"].cost
    if a is None or b is None:
        return NOT_JUDGED
    if a.backward_flops > b.backward_flops:
        return f"A spends {a.backward_flops} FLOPs in backward {at(moment)}, and B only {b.backward_flops}"
    if a.saved_bytes > b.saved_bytes and not casts_again(trial, moment):
        return f"A saves {a.saved_bytes} bytes for backward {at(moment)}, and B only {b.saved_bytes}"
    return HELD


def casts_again(trial: Trial, moment: Moment) -> bool:
    """Whether autocast makes more copies of a weight for being frozen.

    It keeps the cast of a leaf that requires grad until the end of the forward pass, and casts anything else anew at each
    use: a frozen weight that is used several times, in each step of a recurrent layer or by two layers, is saved as often.
    """
    if not (isinstance(moment.event, Step) and moment.event.amp != "none"):
        return False
    uses: Counter[int] = Counter()
    for place in trial.case.architecture.places:
        kinds = {type(layer) for layer in _within(place.layer)}
        often = 0 if Embedding in kinds else 2 if GRU in kinds else 1  # an embedding casts nothing
        uses.update(dict.fromkeys(place.uses, often))
    return any(uses[position] > 1 for position in moment.frozen.forward)


def _within(layer: Layer) -> Iterator[Layer]:
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _within(inner)


INVARIANT = Invariant(
    id="cost-bounded",
    statement=(
        "backward FLOPs and saved-for-backward bytes of A never exceed B's (bytes: but under autocast, which casts a frozen weight "
        "anew at each use)"
    ),
    severity="cost",
    source="https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    judge=judge,
    needs_values=False,
    needs_optimizer=False,
    autograd_only=True,
)
