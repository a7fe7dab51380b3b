"""Families of networks, and the cases that the atlas tries in each: something is frozen and something trains, from beginning to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import strategies as st

from frostproof.generation import masks
from frostproof.generation.cases import MASKS, draw_options
from frostproof.generation.networks import GENES, SPARSE_INPUTS, layers_from, trainable_layers
from frostproof.generation.programs import adapt_event, group_by_layer
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import (
    GELU,
    GRU,
    LSTM,
    AnyLayer,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Embedding,
    Flatten,
    GroupNorm,
    Layer,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReLU,
    RMSNorm,
    SelfAttention,
    Tanh,
    TiedLinear,
    TransformerEncoderLayer,
)
from frostproof.spec.program import Clip, Step
from frostproof.spec.subject import Kind, Subject

Start = tuple[Input, tuple[AnyLayer, ...]]


@dataclass(frozen=True)
class Family:
    """Where its networks begin, and the menu for each rank of a sample, simple things first. `marks`: the layers that make it."""

    inputs: tuple[Start, ...]
    menus: dict[int, tuple[AnyLayer, ...]]
    marks: tuple[type[Layer], ...]


_LINEAR: tuple[AnyLayer, ...] = (
    Linear(2, bias=False),
    Linear(2),
    Linear(3),
    Tanh(),
    ReLU(),
    GELU(),
    Dropout(0.2),
)
_VECTORS: tuple[Start, ...] = tuple((Input((width,)), ()) for width in (2, 3, 4))
_SEQUENCES: tuple[Start, ...] = tuple((Input(shape), ()) for shape in ((2, 3), (3, 4)))
_IMAGES: tuple[Start, ...] = tuple((Input(shape), ()) for shape in ((1, 3, 3), (2, 4, 4)))
_TOKENS: tuple[Start, ...] = tuple(
    (Input((tokens,), rows), (Embedding(rows, width),))
    for tokens, rows, width in ((2, 3, 2), (3, 5, 4))
)

FAMILIES: dict[str, Family] = {
    "linear": Family(_VECTORS, {1: _LINEAR}, (Linear,)),
    "normalized": Family(
        _VECTORS,
        {
            1: (
                BatchNorm1d(),
                Linear(2),
                LayerNorm(),
                RMSNorm(),
                GroupNorm(1),
                BatchNorm1d(),
                Linear(3),
                ReLU(),
            )
        },
        (BatchNorm1d, LayerNorm, RMSNorm, GroupNorm),
    ),
    "convolutional": Family(
        _IMAGES,
        {
            3: (
                Conv2d(2, 1),
                Conv2d(3, 3),
                Conv2d(2, 3, bias=False),
                BatchNorm2d(),
                ReLU(),
                MaxPool2d(),
                AvgPool2d(),
                Flatten(),
            ),
            1: _LINEAR,
        },
        (Conv2d,),
    ),
    "recurrent": Family(
        _SEQUENCES, {2: (LSTM(2), GRU(3), LSTM(3), Linear(2), LayerNorm(), Tanh())}, (LSTM, GRU)
    ),
    "attention": Family(
        _SEQUENCES,
        {
            2: (
                SelfAttention(1),
                TransformerEncoderLayer(1, 3),
                Linear(2),
                LayerNorm(),
                TransformerEncoderLayer(1, 3, dropout=0.2),
                GELU(),
            )
        },
        (SelfAttention, TransformerEncoderLayer),
    ),
    "embedding": Family(
        _TOKENS,
        {2: (Linear(2), TiedLinear(3), LayerNorm(), Linear(3), Tanh(), Flatten()), 1: _LINEAR},
        (Embedding,),
    ),
}

STEPS = (
    Step(),
    Step(micro_batches=2),
    Step(set_to_none=False),
    Step(closure=True),
    Step(after_backward=(Clip("norm", "all"),)),
    Step(after_backward=(Clip("norm", "owned"),)),
    Step(after_backward=(Clip("value", "all"),)),
)
"""What a program is made of, and may end with. Nothing is frozen or thawed on the way: what each way does then is a story of its own."""

_GENES = st.lists(st.integers(0, GENES - 1), min_size=2, max_size=6)
_STEP = st.sampled_from(STEPS)
_BEFORE = st.lists(_STEP, max_size=2)
_MASKS = st.sampled_from([(kind, whole) for kind, whole in MASKS if kind not in ("none", "all")])
_BITS, _SEEDS, _SAMPLES = st.integers(0, 255), st.integers(0, 1 << 16), st.integers(2, 4)


@st.composite
def cases(
    draw: st.DrawFn, subject: Subject, name: str, last: st.SearchStrategy[Step] = _STEP
) -> Case:
    """Cases of the family called `name`, one of `families_of(subject)`, that `subject` can train; `last`: how they end."""
    architecture = _architecture(draw, subject, name)
    names = [parameter.name for parameter in architecture.parameters]
    fit = [
        parameter.name
        for parameter in architecture.parameters
        if subject.parameters != "sparse" or parameter.sparse
    ]
    kind, whole = draw(_MASKS)
    units = group_by_layer(fit) if whole else [[each] for each in fit]
    frozen = set(masks.frozen_members(kind, units, draw(_BITS))) if len(units) > 1 else set()
    frozen |= {each for each in names if each not in fit}
    return Case(
        architecture,
        tuple(each for each in names if each in (frozen or {names[0]})),
        (
            Group(
                tuple(names),
                draw_options(draw, subject.space, lambda n: draw(st.integers(0, n - 1))),
            ),
        ),
        tuple(adapt_event(step, subject, architecture) for step in (*draw(_BEFORE), draw(last))),
        dtype=subject.dtypes[0],
        batch=draw(_SAMPLES),
        frozen_in_eval=draw(st.booleans()),
        seed=draw(_SEEDS),
    )


def _architecture(draw: st.DrawFn, subject: Subject, name: str) -> Architecture:
    """A network with a layer that makes the family, and with at least two parameters, of which one may be frozen."""
    menus, inputs, marks = _fitting(subject.parameters, name)
    given, first = draw(st.sampled_from(inputs))
    genes = draw(_GENES)
    layers = layers_from(genes, given.shape, first, menus)
    if not any(isinstance(layer, FAMILIES[name].marks) for layer in layers):
        mark = draw(st.sampled_from(marks))
        fitted: Any = mark.fitted(given.shape)
        layers = layers_from(genes, given.shape, (fitted,), menus)
    found = Architecture(given, layers)
    if len(found.parameters) < 2 or (
        subject.parameters == "sparse" and all(parameter.sparse for parameter in found.parameters)
    ):
        found = Architecture(
            given, (*layers, Conv2d(2, 1) if len(found.output) == 3 else Linear(2, bias=False))
        )
    return found


@cache
def _fitting(
    kind: Kind, name: str
) -> tuple[Mapping[int, Sequence[AnyLayer]], Sequence[Start], Sequence[AnyLayer]]:
    """Of a family what an optimizer of `kind` can train: its menus, its inputs, and the layers that make it and may come first."""
    family = FAMILIES[name]
    menus = {rank: trainable_layers(menu, rank, kind) for rank, menu in family.menus.items()}
    marks = tuple(
        layer for layer in menus[len(family.inputs[0][0].shape)] if isinstance(layer, family.marks)
    )
    if name == "embedding":
        inputs = (
            tuple(start for start in SPARSE_INPUTS if isinstance(start[1][0], Embedding))
            if kind == "sparse"
            else family.inputs
        )
        return menus, inputs, ()
    return menus, family.inputs if marks and kind != "sparse" else (), marks


def families_of(subject: Subject) -> list[str]:
    """Names of the families that have networks for what this optimizer can train."""
    return [name for name in FAMILIES if _fitting(subject.parameters, name)[1]]
