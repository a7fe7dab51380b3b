"""Hypothesis strategies for cases.

Hypothesis pays per draw, so a draw is a small integer from a strategy that exists once, and reads a menu of prebuilt
specs; menus run from simple to complex, because integers shrink to 0. What is drawn fits by construction: a layer is
taken from the menu of the shape that reaches it, and nothing is filtered out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

from hypothesis import strategies as st

from frostproof import mask as masks
from frostproof.architecture import Architecture, Input
from frostproof.case import Case, Group
from frostproof.layers import (
    GELU,
    AnyLayer,
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    Dropout,
    Embedding,
    Flatten,
    GroupNorm,
    Layer,
    LayerNorm,
    Linear,
    ParameterSpec,
    PReLU,
    ReLU,
    Sequential,
    Shape,
    Tanh,
)
from frostproof.program import AnyEvent, BackwardUnderNoGrad, Program, Step, ZeroGrad
from frostproof.subject import Kind, Options, Subject

WIDE = 67
"""A width past the vector registers and past 64, and no multiple of either."""

ACTIVATIONS: tuple[AnyLayer, ...] = (Tanh(), GELU(), ReLU(), ReLU(inplace=True), Dropout(), Dropout(0.2))
VECTOR: tuple[AnyLayer, ...] = (
    *(Linear(width, bias) for width in (2, 1, 3, 5) for bias in (False, True)),
    *(Linear(width) for width in (2, 3, 4, 6, WIDE)),
    *ACTIVATIONS,
    PReLU(),
    LayerNorm(),
    *[BatchNorm1d()] * 5,
    GroupNorm(1),
    GroupNorm(2),
)
SEQUENCE: tuple[AnyLayer, ...] = (
    Flatten(),
    *(Conv1d(channels, kernel, bias=bias) for channels, kernel in ((2, 1), (3, 3)) for bias in (False, True)),
    Conv1d(2, 3, stride=2),
    Conv1d(WIDE),
    Linear(2),
    Linear(3, bias=False),
    *ACTIVATIONS,
    PReLU(),
    LayerNorm(),
    *[BatchNorm1d()] * 5,
    GroupNorm(1),
    GroupNorm(2),
)
IMAGE: tuple[AnyLayer, ...] = (
    Flatten(),
    *(Conv2d(channels, kernel, bias=bias) for channels, kernel in ((2, 1), (3, 3)) for bias in (False, True)),
    Conv2d(2, 3, stride=2),
    Conv2d(WIDE, stride=2),
    *ACTIVATIONS,
    PReLU(),
    LayerNorm(),
    *[BatchNorm2d()] * 5,
    GroupNorm(1),
    GroupNorm(2),
)
MENUS = {1: VECTOR, 2: SEQUENCE, 3: IMAGE}
"""Rank of one sample -> layers that can take it, all of them after `fitted`."""

Choices = tuple[Any, tuple[Any, ...]]

GENES = 128  # finer than the longest menu


def _start(shape: Shape, *first: AnyLayer, vocabulary: int = 0) -> tuple[Input, tuple[AnyLayer, ...]]:
    return Input(shape, vocabulary), first


INPUTS: tuple[tuple[Input, tuple[AnyLayer, ...]], ...] = (
    *(_start((width,)) for width in (2, 1, 3, 4, 6, WIDE)),
    _start((2, 3)),
    _start((3, 4)),
    _start((1, 3, 3)),
    _start((2, 4, 4)),
    _start((2,), Embedding(3, 2), vocabulary=3),
    _start((3,), Embedding(5, 4), vocabulary=5),
)
FLAT_INPUTS = tuple(start for start in INPUTS if len(start[0].shape) == 1)
SPARSE_INPUTS = tuple(
    _start((tokens,), Embedding(rows, width, sparse=True), vocabulary=rows)
    for tokens, rows, width in ((1, 1, 1), (1, 2, 1), (2, 3, 2), (3, 5, 4), (2, WIDE, WIDE))
)
INPUTS_OF: dict[Kind, tuple[tuple[Input, tuple[AnyLayer, ...]], ...]] = {
    "any": INPUTS,
    "up-to-2d": FLAT_INPUTS,
    "matrices": FLAT_INPUTS,
    "sparse": SPARSE_INPUTS,
}

EVENTS: tuple[AnyEvent, ...] = (
    *[Step()] * 6,
    *[Step(set_to_none=False)] * 2,
    *[Step(closure=True)] * 2,
    *[Step(drop="first")] * 2,
    *[Step(drop="last")] * 2,
    *[Step(drop="all")] * 2,
    Step(drop="all", set_to_none=False),
    *[BackwardUnderNoGrad()] * 2,
    ZeroGrad(),
    ZeroGrad(set_to_none=False),
)
MASKS = tuple((kind, by_layer) for kind in masks.KINDS for by_layer in (True, False) if by_layer or kind != "none")
MAX_LAYERS, MAX_EVENTS = 8, 5


@cache
def _numbers(place: int, n: int) -> st.SearchStrategy[int]:
    """The integers below n, shifted by a number that belongs to the place in the case.

    Hypothesis makes up to five examples of each by copying between draws of one label, which here would put a layer's
    number in a mask's place. Strategies over different numbers have different labels, so each example is fresh.
    """
    return st.sampled_from(range(place << 20, (place << 20) + n))


END = GENES // 6
"""After the first, a gene below this ends the list: a list then costs one draw per element, and loses any by shrinking."""

ASPECTS: dict[str, Choices] = {
    "extras": ((), (("cleared", "second"), ("cleared",), ("second",), ("again",), ("cleared", "second", "again"))),
    "eval": (False, (True,)),
    "dtype": (0, (1, 2)),
    "groups": ((1, False), ((2, False), (2, True), (3, False), (3, True))),
    "batch": (0, (1, 2, 3)),
    "nesting": ("flat", ("tail", "pairs", "deep")),
    "input": (False, (False, True)),
}
"""What is beside the point of most cases: the simplest value, and the others."""


def layers_from(genes: Sequence[int], shape: Shape, first: Sequence[AnyLayer], kind: Kind) -> tuple[AnyLayer, ...]:
    """The layers that `genes` stand for, each read from the menu of the shape that reaches it."""
    layers: list[Layer] = list(first)
    for layer in first:
        shape = layer.output(shape)
    overwritable = bool(first)  # the samples themselves may be a leaf that requires grad
    for gene in genes[len(first) :]:
        menu = _menu(kind, len(shape))
        drawn: Layer = menu[gene * len(menu) // GENES].fitted(shape)
        if isinstance(drawn, ReLU) and drawn.inplace and not overwritable:
            drawn = ReLU()
        if drawn.overwritable is not None:
            overwritable = drawn.overwritable
        layers.append(drawn)
        shape = drawn.output(shape)
    if not any(layer.parameters((1,) * 3) for layer in layers):
        layers.insert(0, Linear(2, bias=False))
    return tuple(layers[:MAX_LAYERS])  # type: ignore[arg-type]


@cache
def _menu(kind: Kind, rank: int) -> tuple[AnyLayer, ...]:
    """The layers for a sample of `rank` whose parameters a subject of `kind` can train."""
    shape = (2,) * rank
    largest = {"any": 9, "sparse": 9, "up-to-2d": 2, "matrices": 2}[kind]
    smallest = 2 if kind == "matrices" else 0
    return tuple(layer for layer in MENUS[rank] if all(smallest <= len(p.shape) <= largest for p in layer.parameters(shape)))


def nested(layers: tuple[AnyLayer, ...], nesting: str) -> tuple[AnyLayer, ...]:
    """The same layers with some of them inside Sequentials."""
    if nesting == "flat" or len(layers) < 2:
        return layers
    if nesting == "tail":
        return (layers[0], Sequential(layers[1:]))
    if nesting == "pairs":
        return tuple(Sequential(layers[i : i + 2]) for i in range(0, len(layers), 2))
    return (Sequential((layers[0], Sequential(layers[1:]))),)


def groups_of(names: Sequence[str], options: Sequence[Options], interleaved: bool) -> tuple[Group, ...]:
    """A parameter group for each of `options`: every n-th parameter, or the n-th stretch of them."""
    n = min(len(options), len(names))
    if interleaved:
        members = [names[i::n] for i in range(n)]
    else:
        cuts = [i * len(names) // n for i in range(n + 1)]
        members = [names[cuts[i] : cuts[i + 1]] for i in range(n)]
    return tuple(Group(tuple(member), choice) for member, choice in zip(members, options, strict=False))


def _unfit(parameter: ParameterSpec, kind: Kind) -> bool:
    """Whether a subject of `kind` cannot train this parameter, so that it is always frozen."""
    return kind == "sparse" and not parameter.sparse


@st.composite
def _cases(draw: st.DrawFn, subject: Subject) -> Case:
    place = 0

    def pick(n: int) -> int:
        nonlocal place
        place += 1
        return draw(_numbers(place, n)) & 0xFFFFF

    def listed(longest: int) -> list[int]:
        """Up to `longest` genes, stretched so that those after the first use the whole range too.

        The list ends with a draw of its own even where it is full, so that deleting any gene leaves a list that ends.
        """
        nonlocal place
        genes, start = [pick(GENES)], place
        while (gene := pick(GENES)) >= END and len(genes) < longest:
            genes.append((gene - END) * GENES // (GENES - END))
        place = start + longest + 1
        return genes

    kind = subject.parameters
    inputs = INPUTS_OF[kind]
    given, first = inputs[pick(len(inputs))]
    layers = layers_from(listed(MAX_LAYERS), given.shape, first, kind)
    aspect = dict(zip(ASPECTS, varied(list(ASPECTS.values()), pick), strict=True))
    architecture = Architecture(given, nested(layers, aspect["nesting"]))
    parameters = architecture.parameters
    names = [parameter.name for parameter in parameters]

    mask_kind, by_layer = MASKS[pick(len(MASKS))]
    frozen = set(masks.frozen(mask_kind, _by_layer(names) if by_layer else [[name] for name in names], pick(256)))
    mask = tuple(parameter.name for parameter in parameters if parameter.name in frozen or _unfit(parameter, kind))

    program = _program_from(listed(MAX_EVENTS), subject)
    seed = pick(1 << 16)
    # What may be drawn more than once comes last: with fewer groups nothing else then reads another draw.
    count, interleaved = aspect["groups"] if subject.groups else (1, False)
    space = [(choice[0], choice[1:] or choice) for choice in subject.space]
    options = [sum(varied(space, pick), ()) for _ in range(min(count, len(names)))]
    return Case(
        architecture,
        mask,
        groups_of(names, options, interleaved),
        program,
        dtype=subject.dtypes[min(aspect["dtype"], len(subject.dtypes) - 1)],
        batch=(2 if any(place.layer.needs_many for place in architecture.places) else 1) + aspect["batch"],
        input_requires_grad=aspect["input"] and not given.vocabulary,
        frozen_in_eval=aspect["eval"],
        extras=aspect["extras"],
        seed=seed,
    )


def varied(choices: Sequence[Choices], pick: Callable[[int], int]) -> list[Any]:
    """For each choice its simplest value or another, in two draws whatever comes out.

    The first draw has a bit per choice, set where the value is another; the second says which other, in mixed radix.
    """
    if not choices:
        return []
    bits = pick(1 << len(choices))
    which = pick(prod(len(others) for _, others in choices))
    values = []
    for i, (simplest, others) in enumerate(choices):
        which, position = divmod(which, len(others))
        values.append(others[position] if bits >> i & 1 else simplest)
    return values


def cases(subject: Subject) -> st.SearchStrategy[Case]:
    """Cases that `subject` can train. A subject must have been probed, or have every capability stated."""
    return _cases(subject)


def _program_from(numbers: Sequence[int], subject: Subject) -> Program:
    events = tuple(_event(EVENTS[gene * len(EVENTS) // GENES], subject) for gene in numbers)
    return events if any(isinstance(event, Step) for event in events) else (*events[: MAX_EVENTS - 1], _event(Step(), subject))


def _event(event: AnyEvent, subject: Subject) -> AnyEvent:
    if not isinstance(event, Step) or event.closure == (subject.closure == "required"):
        return event
    if subject.closure == "required":
        return Step(True, event.set_to_none, event.drop)
    return event if subject.closure == "optional" else Step(False, event.set_to_none, event.drop)


def _by_layer(names: Sequence[str]) -> list[list[str]]:
    layers: dict[str, list[str]] = {}
    for name in names:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    return list(layers.values())
