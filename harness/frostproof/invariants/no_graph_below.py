"""Why no gradient is allocated: below the first trainable leaf there is no graph."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at
from frostproof.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    activations = moment.seen["a"].activations
    if activations is None:
        return NOT_JUDGED
    architecture = trial.case.architecture
    graph = architecture.graph(moment.frozen.forward, trial.case.differentiable_input)
    for place, activation, upstream in zip(architecture.places, activations, graph, strict=True):
        where = f"the output of layer {activation.path} {at(moment)}"
        if activation.requires_grad != upstream:
            leaf = "a leaf upstream requires grad" if upstream else "no leaf upstream requires grad"
            return f"{where} has requires_grad={activation.requires_grad}, though {leaf}"
        saved = activation.saved if not place.layer.keeps_inputs else 0
        if not upstream and (not activation.is_leaf or activation.has_grad_fn or saved):
            return (
                f"{where} needs no gradient, yet is_leaf={activation.is_leaf}, has_grad_fn={activation.has_grad_fn}, "
                f"and {activation.saved} tensors were saved for backward"
            )
    return HELD


INVARIANT = Invariant(
    id="no-graph-below",
    statement=(
        "an activation requires grad if and only if some leaf upstream of it does; otherwise it is a leaf, has no grad_fn, "
        "and nothing is saved for backward"
    ),
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    judge=judge,
    needs_values=False,
    needs_optimizer=False,
    autograd_only=True,
)
