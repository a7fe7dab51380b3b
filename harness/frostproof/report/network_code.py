"""A network as the code that people would write, with its frozen parameters in comments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from frostproof.spec.architecture import Architecture
from frostproof.spec.case import Case, options_text
from frostproof.spec.layers import Layer, Sequential, Shape, TiedLinear
from frostproof.spec.user_model import UserModel


def case_code(case: Case, event: int | None) -> str:
    """The network of a case, with what is frozen at an event; None: before the first."""
    if event is None:
        return network_code(case.architecture, case.initially_frozen)
    frozen = case.mask_timeline[event].at_step
    starts = {_frozen_since(case, i, event) for i in frozen}
    word = f"frozen by event {event}"
    if len(starts) <= 1:
        word = f"frozen since event {max(starts)}" if max(starts, default=-1) >= 0 else "frozen"
    return network_code(case.architecture, frozen, word)


def _frozen_since(case: Case, i: int, event: int) -> int:
    """The number of the event since which parameter `i` is frozen; -1: from the start."""
    while event >= 0 and i in case.mask_timeline[event].at_step:
        event -= 1
    return -1 if event < 0 and i in case.initially_frozen else event + 1


def network_code(
    architecture: Architecture | UserModel, frozen: Collection[int], word: str = "frozen"
) -> str:
    """`nn.Sequential(...)`, one line for each layer. `frozen` has the positions of parameters.

    `word`: what the comments say of them.

    >>> from frostproof.spec.architecture import Input
    >>> from frostproof.spec.layers import Linear, Tanh
    >>> print(network_code(Architecture(Input((2,)), (Linear(3), Tanh())), {0, 1}))
    nn.Sequential(
        nn.Linear(2, 3),  # frozen
        nn.Tanh(),
    )
    """
    if isinstance(architecture, UserModel):
        return "\n".join(_model_lines(architecture, frozen, word))
    notes = dict(_notes(architecture, frozen, word))
    return "\n".join(
        ["nn.Sequential(", *_lines(architecture.layers, architecture.input.shape, "", notes), ")"]
    )


def _model_lines(model: UserModel, frozen: Collection[int], word: str) -> Iterator[str]:
    """The user's factory, and the modules with frozen parameters."""
    yield f"{model.factory}(),  # {len(frozen)} of {len(model.weights)} parameters are {word}:"
    for path, uses in model.modules:
        names = [model.weights[i].name for i in uses if i in frozen]
        own = [name for name in names if "." not in name]
        if path and names:
            yield f"    # {path}{'' if len(names) == len(uses) else ', in part'}"
        elif own:  # of the model itself, whose uses are those of all its modules
            yield f"    # {', '.join(own)}"


def _lines(
    layers: Iterable[Layer], shape: Shape, prefix: str, notes: dict[str, str]
) -> Iterator[str]:
    margin = "    " * (1 + prefix.count("."))
    for index, layer in enumerate(layers):
        path = f"{prefix}{index}"
        if isinstance(layer, Sequential):
            yield f"{margin}nn.Sequential("
            yield from _lines(layer.layers, shape, f"{path}.", notes)
            yield f"{margin}),"
        else:
            yield f"{margin}{layer.constructor(shape)},{notes.get(path, '')}"
        shape = layer.output(shape)


def _notes(
    architecture: Architecture, frozen: Collection[int], word: str
) -> Iterator[tuple[str, str]]:
    for place in architecture.places:
        names = [
            architecture.parameters[i].name.removeprefix(f"{place.path}.")
            for i in place.uses
            if i in frozen
        ]
        note = (
            f"the weight of layer {architecture.places[place.layer.of].path}"
            if isinstance(place.layer, TiedLinear)
            else ""
        )
        if names:
            what = word if len(names) == len(place.uses) else f"{word}: {', '.join(names)}"
            note = f"{note}; {what}" if note else what
        if note:
            yield place.path, f"  # {note}"


def hyperparameter_text(case: Case) -> str:
    """The arguments of the optimizer. If groups differ, one text for each."""
    texts = [options_text(group.options) for group in case.groups]
    if len(set(texts)) == 1:
        return texts[0]
    return "; ".join(f"group {i}: {text}" for i, text in enumerate(texts))


def case_conditions(case: Case) -> Iterator[str]:
    """The other settings of the case, in words."""
    yield case.dtype
    if not isinstance(case.architecture, UserModel):  # whose batch is given
        yield f"batch {case.batch}"
    yield f"seed {case.seed}"
    if len(case.groups) > 1:
        yield f"{len(case.groups)} parameter groups"
    if case.frozen_in_eval:
        yield "frozen modules in eval mode"
    if case.differentiable_input:
        yield "samples that require grad"
