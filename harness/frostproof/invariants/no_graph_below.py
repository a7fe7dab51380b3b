"""Why no gradient is allocated: below the first trainable leaf there is no graph."""

from frostproof.invariants.assertions import Asserts, exits_if
from frostproof.invariants.breach import HELD, Assertion, Breach, Judgements, Kind, ShownBreach
from frostproof.invariants.invariant import Invariant
from frostproof.spec.architecture import expression
from frostproof.training.observation import EventRecord, Trial
from frostproof.training.source import Statement, block

NO_LEAF = "no leaf upstream of it requires grad"
LEAF = "a leaf upstream of it requires grad"


def _hook(condition: str, text: str, *before: str) -> Asserts:
    """An assertion on a layer's output, in a forward hook. `before`: statements before it."""

    def assertion(shown: ShownBreach) -> Assertion:
        test = exits_if(shown, condition, text)
        layer = expression(shown.found.path)
        statements: list[Statement] = [each.format(layer=layer) for each in before]
        statements.append(block("def look(module, inputs, output):", test))
        statements.append(f"{layer}.register_forward_hook(look)")
        return Assertion({(shown.breach.event, "before"): statements})

    return assertion


KEPT = (
    "the output of layer {found.path} {at} needs no gradient, yet is_leaf={found.is_leaf}, "
    "has_grad_fn={found.has_grad_fn}, and {found.saved} tensors were saved for backward"
)
NO_GRAPH = "{expected}, so the output of layer {found.path} has no graph"
FLAG = Kind(
    "requires-grad",
    "the output of layer {found.path} {at} has requires_grad={found.requires_grad}, "
    "though {expected}",
    "{expected}, so the output of layer {found.path} has no graph",
    _hook(
        "output.requires_grad is {found.requires_grad}",
        "layer {found.path}: requires_grad={found.requires_grad}, though {expected}",
    ),
)
GRAPH = Kind(
    "keeps-graph",
    KEPT,
    NO_GRAPH,
    _hook(
        "output.grad_fn is not None or not output.is_leaf",
        "layer {found.path} keeps a graph, though {expected}",
    ),
)
SAVED = Kind(
    "saves-tensors",
    KEPT,
    NO_GRAPH,
    _hook(
        "kept",
        "layer {found.path} saved {{len(kept)}} tensors for backward, though {expected}",
        "kept = []",
        "torch.autograd.graph.saved_tensors_hooks("
        "lambda t: kept.append(t) or t, lambda t: t).__enter__()",
        "{layer}.register_forward_pre_hook(lambda *_: kept.clear())",
    ),
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    activations, case = record.observations["a"].activations, trial.case
    if activations is None:
        return
    graph = case.architecture.graph(record.mask.forward, case.differentiable_input)
    for place, found, upstream in zip(case.architecture.places, activations, graph, strict=True):
        kind = None
        if found.requires_grad != upstream:
            kind = FLAG
        elif not upstream and (not found.is_leaf or found.has_grad_fn):
            kind = GRAPH
        elif not upstream and found.saved and not place.layer.keeps_inputs:
            kind = SAVED
        if kind is not None:
            leaf = LEAF if upstream else NO_LEAF
            yield Breach(kind, ("a",), record.number, place.uses, leaf, found)
        yield HELD


INVARIANT = Invariant(
    "no-graph-below",
    "an activation requires grad if and only if some leaf upstream of it does; otherwise it is a "
    "leaf, has no grad_fn, and nothing is saved for backward",
    judge,
    "https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    needs_values=False,
    needs_optimizer=False,
    autograd_only=True,
)
