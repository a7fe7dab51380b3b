"""Freezing by requires_grad spares work, and never adds any."""

from collections import Counter
from collections.abc import Iterator

from frostproof.invariants.breach import HELD, NOT_JUDGED, Assertion, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.pairs import labels
from frostproof.spec.layers import GRU, Embedding, Layer
from frostproof.spec.program import Step
from frostproof.training.observation import Moment, Trial
from frostproof.training.source import Statement, block


def judge(trial: Trial, moment: Moment) -> Judgement:
    a, b = moment.seen["a"].cost, moment.seen["b"].cost
    if a is None or b is None:
        return NOT_JUDGED
    if a.backward_flops > b.backward_flops:
        return Breach(
            FLOPS, ("a", "b"), moment.number, expected=b.backward_flops, found=a.backward_flops
        )
    if a.saved_bytes > b.saved_bytes and not casts_again(trial, moment):
        return Breach(BYTES, ("a", "b"), moment.number, expected=b.saved_bytes, found=a.saved_bytes)
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
    return any(uses[position] > 1 for position in moment.mask.in_forward)


def _within(layer: Layer) -> Iterator[Layer]:
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _within(inner)


def _bounded(
    shown: Shown, what: str, point: str, before: list[Statement], *after: Statement
) -> Assertion:
    left, right = labels(shown.trial, shown.breach.roles)
    expected = (
        "freezing by requires_grad spares work in backward and memory for it, and never takes more"
    )
    found = shown.noted(expected, "before", *before)
    if after:
        found.notes[shown.breach.event, point] = [*after]
    found.setup, found.returns = ["spent = []"], "spent[0]"
    text = f"{{{left}}} {what} in {left}, {{{right}}} in {right}"
    found.verdict = [
        f'{left}, {right} = train("{left}"), train("{right}")',
        shown.exits_if(f"{left} > {right}", text),
    ]
    return found


def _flops(shown: Shown) -> Assertion:
    before: list[Statement] = [
        "from torch.utils.flop_counter import FlopCounterMode",
        "flops = FlopCounterMode(display=False)",
        "model.register_forward_hook(lambda *_: None if spent else flops.__enter__() and None)",
    ]
    counted = block(
        "if not spent:", "flops.__exit__(None, None, None)", "spent.append(flops.get_total_flops())"
    )
    return _bounded(shown, "FLOPs in backward", "pass", before, counted)


def _bytes(shown: Shown) -> Assertion:
    before: list[Statement] = [
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
    return _bounded(shown, "bytes saved for backward", "", before)


FLOPS = Kind(
    "flops",
    lambda shown: (
        f"A spends {shown.breach.found} FLOPs in backward {shown.at}, and B only {shown.breach.expected}"
    ),
    _flops,
)
BYTES = Kind(
    "bytes",
    lambda shown: (
        f"A saves {shown.breach.found} bytes for backward {shown.at}, and B only {shown.breach.expected}"
    ),
    _bytes,
)

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
