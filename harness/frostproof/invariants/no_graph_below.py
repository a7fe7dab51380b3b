"""Why no gradient is allocated: below the first trainable leaf there is no graph."""

from frostproof.invariants.invariant import (
    HELD,
    Assertion,
    Breach,
    Invariant,
    Judgements,
    Kind,
    ShownBreach,
)
from frostproof.spec.architecture import expression
from frostproof.training.observation import EventRecord, Trial
from frostproof.training.source import Statement, block


class _Output(Kind):
    """Asserted of a layer's output, in a forward hook."""

    def assertion(self, shown: ShownBreach) -> Assertion:
        layer, test = expression(shown.found.path), self.test(shown)
        before: list[Statement] = [each.format(layer=layer) for each in self.after]
        look = block("def look(module, inputs, output):", test)
        hook = f"{layer}.register_forward_hook(look)"
        return Assertion({(shown.breach.event, "before"): [*before, look, hook]})


FLAG = _Output(
    "requires-grad",
    "the output of layer {found.path} has requires_grad={found.requires_grad}, though {expected}",
    "output.requires_grad is {found.requires_grad}",
    where=", {at}",
)
GRAPH = _Output(
    "keeps-graph",
    "the output of layer {found.path} keeps a graph, though {expected}",
    "output.grad_fn is not None or not output.is_leaf",
    where=", {at}: is_leaf={found.is_leaf}, has_grad_fn={found.has_grad_fn}",
)
SAVED = _Output(
    "saves-tensors",
    "layer {found.path} saved tensors for backward, though {expected}",
    "kept",
    where=", {at}: {found.saved}",
    after=[
        "kept = []",
        "torch.autograd.graph.saved_tensors_hooks("
        "lambda t: kept.append(t) or t, lambda t: t).__enter__()",
        "{layer}.register_forward_pre_hook(lambda *_: kept.clear())",
    ],
    shows=": {{len(kept)}}",
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    activations, case = record.observations["a"].activations, trial.case
    if activations is None:
        return
    graph = case.architecture.graph(record.mask.in_forward, case.differentiable_input)
    for place, found, upstream in zip(case.architecture.places, activations, graph, strict=True):
        leaf = f"{'a' if upstream else 'no'} leaf upstream of it requires grad"
        kind = None
        if found.requires_grad != upstream:
            kind = FLAG
        elif not upstream and (not found.is_leaf or found.has_grad_fn):
            kind = GRAPH
        elif not upstream and found.saved and not place.layer.keeps_inputs:
            kind = SAVED
        yield Breach(kind, ("a",), record.number, place.uses, leaf, found) if kind else HELD


INVARIANT = Invariant(
    "no-graph-below",
    "the output of a layer requires grad if and only if a leaf upstream of it does; otherwise it "
    "is a leaf without grad_fn, and nothing is saved for backward",
    judge,
    "https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    needs_optimizer=False,
    autograd_only=True,
)
