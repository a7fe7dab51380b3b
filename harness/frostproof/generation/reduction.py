"""Smaller cases: what a case may do without.

Hypothesis shrinks the numbers behind a case, one at a time. Here whole parts are left out: layers,
events, groups. A part that is in another's way for Hypothesis is gone at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec

from frostproof.errors import CaseError
from frostproof.generation.programs import adapt_event
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group, Value
from frostproof.spec.layers import Layer, Linear, Shape
from frostproof.spec.program import (
    AddFrozen,
    AnyEvent,
    Freeze,
    Program,
    Step,
    Thaw,
    mask_changes,
    renamed,
)
from frostproof.spec.subject import Choice, Subject

SMALL = 2
"""Features of a small layer."""


def reductions(case: Case, subject: Subject) -> Iterator[Case]:
    """The case with one part less, or one that is simpler, in each way that there is.

    Each is a case that the subject can train, and is no larger. It freezes only what trains, and
    thaws only what is frozen.
    """
    for found in chain(_networks(case, subject), _programs(case, subject), _others(case, subject)):
        reduced = _consistent(found)
        try:
            reduced.check()
        except CaseError:
            continue
        trains = any(isinstance(event, Step) for event in reduced.program)
        if trains and reduced != case and reduced.size <= case.size:
            yield reduced


# Networks


def _networks(case: Case, subject: Subject) -> Iterator[Case]:
    """Networks without a layer, with the layers inside it, and with plain or small ones."""
    network = case.architecture
    trains_linear = subject.parameters in ("any", "up-to-2d")
    if not isinstance(network, Architecture):
        return
    shapes = [network.input.shape]
    for layer in network.layers:
        shapes.append(layer.output(shapes[-1]))
    for k, layer in reversed([*enumerate(network.layers)]):
        yield from _with_layers(case, network, k, (), lambda rest: None)
        if inner := getattr(layer, "layers", ()):
            yield from _with_layers(case, network, k, inner, lambda rest: rest)
        for plain in _plain(layer, shapes[k], shapes[k + 1]) if trains_linear else ():
            yield from _with_layers(case, network, k, (plain,), _in_plain)
            if plain.bias:
                yield from _with_layers(case, network, k, (plain,), _by_mask(case, k))
        if getattr(layer, "out_features", 0) > SMALL:
            small = msgspec.structs.replace(layer, out_features=SMALL)
            yield from _with_layers(case, network, k, (small,), lambda rest: f"0.{rest}")
    if network.tokens and trains_linear:
        _, *others = network.layers
        floats = Input((SMALL,)), (Linear(shapes[1][-1], bias=False), *others)
        yield from _with_layers(case, Architecture(*floats), 0, floats[1][:1], _in_plain)
    if not network.tokens and len(network.input.shape) == 1 and network.input.shape[0] > SMALL:
        samples = msgspec.structs.replace(network.input, shape=(SMALL,))
        yield case.replaced(architecture=msgspec.structs.replace(network, input=samples))


def _plain(layer: Layer, shape: Shape, output: Shape) -> Iterator[Linear]:
    """The linear layers that may take the place of a layer with parameters, without bias first."""
    names = [parameter.name for parameter in layer.parameters(shape)]
    if isinstance(layer, Linear):
        yield from [msgspec.structs.replace(layer, bias=False)] if layer.bias else []
    elif names and not layer.takes_tokens:
        yield Linear(output[-1], bias=False)
        if len(names) > 1:
            yield Linear(output[-1])


def _in_plain(name: str) -> str:
    """What takes the place of a parameter if its layer becomes a linear one with a bias."""
    return "0.bias" if name.endswith("bias") else "0.weight"


def _by_mask(case: Case, k: int) -> Callable[[str], str]:
    """The same, where all that is frozen of layer `k` at some time becomes the weight."""
    changes = (each for event in case.program for each in (event, *mask_changes(event)))
    named = {name for each in changes for name in getattr(each, "names", ())} | {*case.mask}
    return lambda name: "0.weight" if f"{k}.{name}" in named else "0.bias"


def _with_layers(
    case: Case,
    network: Architecture,
    k: int,
    layers: tuple[Layer, ...],
    renaming: Callable[[str], str | None],
) -> Iterator[Case]:
    """The case with these layers in the place of layer `k`, unless they do not fit there.

    `renaming`: the name of a parameter in the old layer -> its number and name in the new ones, or
    None.
    """
    replaced = (*network.layers[:k], *layers, *network.layers[k + 1 :])
    architecture = msgspec.structs.replace(network, layers=replaced)
    try:
        existing = {parameter.name for parameter in architecture.parameters}
    except CaseError:
        return

    def new(name: str) -> str | None:
        number, _, rest = name.partition(".")
        i = int(number)
        if i != k:
            return name if i < k else f"{i + len(layers) - 1}.{rest}"
        inner = renaming(rest)
        if inner is None:
            return None
        number, _, rest = inner.partition(".")
        return f"{k + int(number)}.{rest}"

    def names(old: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name in map(new, old) if name in existing))

    groups, taken = [], set[str]()
    for group in case.groups:
        mine = tuple(name for name in names(group.parameters) if name not in taken)
        taken |= {*mine}
        groups += [msgspec.structs.replace(group, parameters=mine)] if mine else []
    yield case.replaced(
        architecture=architecture,
        mask=names(case.mask),
        groups=tuple(groups),
        program=tuple(renamed(event, lambda each: names(each.names)) for event in case.program),
    )


# Programs


def _programs(case: Case, subject: Subject) -> Iterator[Case]:
    """Programs without half of a run of equal events, without an event, and with simpler ones."""
    program = case.program
    if isinstance(program[0], Freeze):  # it may be frozen from the start
        yield case.replaced(mask=(*case.mask, *program[0].names), program=program[1:])
    for start, length in reversed([*_runs(program)]):
        if length > SMALL:
            yield case.replaced(program=program[:start] + program[start + length // 2 :])
    for i, event in reversed([*enumerate(program)]):
        yield case.replaced(program=program[:i] + program[i + 1 :])
        for simpler in _simpler(event):
            adapted = adapt_event(simpler, subject, case.architecture)
            yield case.replaced(program=(*program[:i], adapted, *program[i + 1 :]))


def _runs(program: Program) -> Iterator[tuple[int, int]]:
    """Where each run of equal events starts, and its length."""
    start = 0
    for i in range(1, len(program) + 1):
        if i == len(program) or program[i] != program[start]:
            yield start, i - start
            start = i


def _simpler(event: AnyEvent) -> Iterator[AnyEvent]:
    """The event with one of its fields, or of those of a freeze inside, as it is by default."""
    for field in msgspec.structs.fields(event):
        name, value = field.name, getattr(event, field.name)
        if field.default not in (value, msgspec.NODEFAULT):
            yield msgspec.structs.replace(event, **{name: field.default})
        for i, inner in enumerate(value if isinstance(value, tuple) else ()):
            for simpler in _simpler(inner) if isinstance(inner, Freeze) else ():
                inside = (*value[:i], simpler, *value[i + 1 :])
                yield msgspec.structs.replace(event, **{name: inside})


def _consistent(case: Case) -> Case:
    """The case without freezing what is frozen, thawing what trains, and events about nothing."""
    frozen = {*case.mask}

    def kept(event: Freeze | Thaw | AddFrozen) -> tuple[str, ...]:
        names = tuple(n for n in event.names if (n in frozen) != isinstance(event, Freeze))
        if isinstance(event, Freeze):
            frozen.update(names)
        elif isinstance(event, Thaw):
            frozen.difference_update(names)
        return names

    program = (_without_empty(renamed(event, kept)) for event in case.program)
    return case.replaced(program=tuple(event for event in program if not _is_empty(event)))


def _is_empty(event: Any) -> bool:
    return isinstance(event, Freeze | Thaw | AddFrozen) and not event.names


def _without_empty(event: AnyEvent) -> AnyEvent:
    """The step without changes of the mask that name nothing."""
    if not isinstance(event, Step):
        return event
    forward, backward = (
        tuple(each for each in inside if not _is_empty(each))
        for inside in (event.after_forward, event.after_backward)
    )
    return msgspec.structs.replace(event, after_forward=forward, after_backward=backward)


# All else


def _others(case: Case, subject: Subject) -> Iterator[Case]:
    """Simpler groups, hyperparameters, dtypes, batches and masks, and fewer further copies."""
    groups = case.groups
    if len(groups) > 1:
        together = tuple(name for group in groups for name in group.parameters)
        yield case.replaced(groups=(msgspec.structs.replace(groups[0], parameters=together),))
    for choice in subject.choices:
        yield case.replaced(groups=tuple(_with_simplest(choice, each, subject) for each in groups))
    for extra in case.extras:
        yield case.replaced(extras=tuple(each for each in case.extras if each != extra))
    yield case.replaced(dtype=subject.dtypes[0])
    yield case.replaced(batch=1 + case.architecture.needs_many)
    yield case.replaced(input_requires_grad=False)
    yield case.replaced(frozen_in_eval=False)
    yield case.replaced(seed=0)
    layers = dict.fromkeys(name.rpartition(".")[0] for name in case.mask)
    for path in reversed(layers):
        yield case.replaced(mask=tuple(n for n in case.mask if n.rpartition(".")[0] != path))


def _with_simplest(choice: Choice, group: Group, subject: Subject) -> Group:
    """The group with the simplest values of a choice, and its own of the others."""
    options: list[tuple[str, Value]] = []
    for each in subject.choices:
        names = {name for alternative in each for name, _ in alternative}
        own = tuple(option for option in group.options if option[0] in names)
        options += choice[0] if each is choice else own
    return msgspec.structs.replace(group, options=tuple(options))
