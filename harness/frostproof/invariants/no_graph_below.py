"""Why no gradient is allocated: below the first trainable leaf there is no graph."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Assertion, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.spec.architecture import expression
from frostproof.training.observation import Activation, Moment, Trial
from frostproof.training.source import Statement, block


def judge(trial: Trial, moment: Moment) -> Judgement:
    activations = moment.seen["a"].activations
    if activations is None:
        return NOT_JUDGED
    architecture = trial.case.architecture
    graph = architecture.graph(moment.mask.in_forward, trial.case.differentiable_input)
    for place, activation, upstream in zip(architecture.places, activations, graph, strict=True):
        kind = None
        if activation.requires_grad != upstream:
            kind = FLAG
        elif not upstream and (not activation.is_leaf or activation.has_grad_fn):
            kind = GRAPH
        elif not upstream and activation.saved and not place.layer.keeps_inputs:
            kind = SAVED
        if kind is not None:
            return Breach(kind, ("a",), moment.number, place.uses, upstream, activation)
    return HELD


def _leaf(shown: Shown) -> str:
    return (
        "a leaf upstream of it requires grad"
        if shown.breach.expected
        else "no leaf upstream of it requires grad"
    )


def _found(shown: Shown) -> Activation:
    found: Activation = shown.breach.found
    return found


def _flag_said(shown: Shown) -> str:
    return f"the output of layer {_found(shown).path} {shown.at} has requires_grad={_found(shown).requires_grad}, though {_leaf(shown)}"


def _kept_said(shown: Shown) -> str:
    activation = _found(shown)
    return (
        f"the output of layer {activation.path} {shown.at} needs no gradient, yet is_leaf={activation.is_leaf}, "
        f"has_grad_fn={activation.has_grad_fn}, and {activation.saved} tensors were saved for backward"
    )


def _hooked(shown: Shown, test: Statement, *before: Statement) -> Assertion:
    path = _found(shown).path
    does = "does" if shown.breach.expected else "has no graph"
    hook: list[Statement] = [
        block("def look(module, inputs, output):", test),
        f"{expression(path)}.register_forward_hook(look)",
    ]
    return shown.noted(
        f"{_leaf(shown)}, so the output of layer {path} {does}", "before", *before, *hook
    )


def _flag_asserted(shown: Shown) -> Assertion:
    wrong = not shown.breach.expected
    text = f"layer {_found(shown).path}: requires_grad={wrong}, though {_leaf(shown)}"
    return _hooked(shown, shown.exits_if(f"output.requires_grad is {wrong}", text))


def _graph_asserted(shown: Shown) -> Assertion:
    text = f"layer {_found(shown).path} keeps a graph, though {_leaf(shown)}"
    return _hooked(shown, shown.exits_if("output.grad_fn is not None or not output.is_leaf", text))


def _saved_asserted(shown: Shown) -> Assertion:
    path = _found(shown).path
    before = [
        "kept = []",
        "torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t).__enter__()",
        f"{expression(path)}.register_forward_pre_hook(lambda *_: kept.clear())",
    ]
    text = f"layer {path} saved {{len(kept)}} tensors for backward, though {_leaf(shown)}"
    return _hooked(shown, shown.exits_if("kept", text), *before)


FLAG = Kind("requires-grad", _flag_said, _flag_asserted)
GRAPH = Kind("keeps-graph", _kept_said, _graph_asserted)
SAVED = Kind("saves-tensors", _kept_said, _saved_asserted)

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
