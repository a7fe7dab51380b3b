"""Freezing by requires_grad saves work and memory, and never adds any."""

from collections import Counter
from collections.abc import Iterator

from frostproof.invariants.invariant import HELD, Invariant, Judgements, Kind
from frostproof.spec.layers import GRU, Embedding, Layer
from frostproof.spec.program import Step
from frostproof.training.observation import EventRecord, Trial
from frostproof.training.source import Statement, block

COUNT_FLOPS: list[Statement] = [
    "from torch.utils.flop_counter import FlopCounterMode",
    "flops = FlopCounterMode(display=False)",
    "model.register_forward_hook(lambda *_: None if spent else flops.__enter__() and None)",
]
KEEP_FLOPS = block(
    "if not spent:", "flops.__exit__(None, None, None)", "spent.append(flops.get_total_flops())"
)
COUNT_BYTES: list[Statement] = [
    "saved = {}  # storages that the graph holds",
    block(
        "def keep(tensor):",
        "saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()",
        "return tensor",
    ),
    "hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)",
    "hooks.__enter__()",
    block(
        "def finish(module, inputs, outputs):",
        block("if not spent:", "hooks.__exit__()", "spent.append(sum(saved.values()))"),
    ),
    "model.register_forward_hook(finish)",
]


def _costs(id: str, text: str, notes: dict[str, list[Statement]]) -> Kind:
    return Kind(
        id,
        text,
        "{left} > {right}",
        where=": {found}, and in B only {expected}, {at}",
        shows=": {{{left}}} in {left}, and {{{right}}} in {right}",
        notes=notes,
        setup="spent = []",
        returns="spent[0]",
    )


FLOPS = _costs(
    "flops", "A spends more FLOPs in backward", {"before": COUNT_FLOPS, "pass": [KEEP_FLOPS]}
)
BYTES = _costs("bytes", "A saves more bytes for backward", {"before": COUNT_BYTES})


def judge(trial: Trial, record: EventRecord) -> Judgements:
    a, b = record.observations["a"].cost, record.observations["b"].cost
    if a is None or b is None:
        return
    if a.backward_flops > b.backward_flops:
        yield FLOPS.breach(record, ("a", "b"), None, b.backward_flops, a.backward_flops)
    if a.saved_bytes > b.saved_bytes and not casts_again(trial, record):
        yield BYTES.breach(record, ("a", "b"), None, b.saved_bytes, a.saved_bytes)
    yield HELD


def casts_again(trial: Trial, record: EventRecord) -> bool:
    """Whether autocast makes more copies of a weight because it is frozen.

    Autocast keeps the cast of a leaf that requires grad until the end of the forward pass, and
    casts anything else anew at each use. A frozen weight that is used several times, in each step
    of a recurrent layer or by two layers, is saved as often.
    """
    if not (isinstance(record.event, Step) and record.event.amp != "none"):
        return False
    uses: Counter[int] = Counter()
    for place in trial.case.architecture.places:
        kinds = {type(layer) for layer in _within(place.layer)}
        often = 0 if Embedding in kinds else 2 if GRU in kinds else 1  # an embedding casts nothing
        uses.update(dict.fromkeys(place.uses, often))
    return any(uses[position] > 1 for position in record.mask.in_forward)


def _within(layer: Layer) -> Iterator[Layer]:
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _within(inner)


INVARIANT = Invariant(
    "cost-bounded",
    "A never spends more FLOPs in backward than B, and never saves more bytes for it "
    "(except under autocast, which casts a frozen weight anew at each use)",
    judge,
    "https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    "cost",
    needs_optimizer=False,
    autograd_only=True,
    violation_class="cost",
)
