"""The cases that the atlas tries in each network family.

In every case at least one parameter is frozen and at least one trains, and this never changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from hypothesis import strategies as st

from frostproof.applications.atlas.families import FAMILIES, NetworkStart
from frostproof.generation import masks
from frostproof.generation.cases import MASKS, draw_options
from frostproof.generation.networks import GENES, SPARSE_INPUTS, layers_from, trainable_layers
from frostproof.generation.programs import adapt_event, group_by_layer
from frostproof.spec.architecture import Architecture
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import AnyLayer, Conv2d, Embedding, Linear
from frostproof.spec.program import Clip, Step
from frostproof.spec.subject import ParameterKind, Subject

STEP_KINDS = (
    Step(),
    Step(micro_batches=2),
    Step(set_to_none=False),
    Step(closure=True),
    Step(after_backward=(Clip("norm", "all"),)),
    Step(after_backward=(Clip("norm", "owned"),)),
    Step(after_backward=(Clip("value", "all"),)),
)
"""The steps of a program. No program freezes or thaws: the ways differ too much in that."""

_GENES = st.lists(st.integers(0, GENES - 1), min_size=2, max_size=6)
_STEP = st.sampled_from(STEP_KINDS)
_BEFORE = st.lists(_STEP, max_size=2)
_MASKS = st.sampled_from([(kind, whole) for kind, whole in MASKS if kind not in ("none", "all")])
_BITS, _SEEDS, _SAMPLES = st.integers(0, 255), st.integers(0, 1 << 16), st.integers(2, 4)


@st.composite
def family_cases(
    draw: st.DrawFn, subject: Subject, name: str, last: st.SearchStrategy[Step] = _STEP
) -> Case:
    """Cases of one of `trainable_families(subject)`, which end with a step drawn from `last`."""
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
                draw_options(draw, subject, lambda n: draw(st.integers(0, n - 1))),
            ),
        ),
        tuple(adapt_event(step, subject, architecture) for step in (*draw(_BEFORE), draw(last))),
        dtype=subject.dtypes[0],
        batch=draw(_SAMPLES),
        frozen_in_eval=draw(st.booleans()),
        seed=draw(_SEEDS),
    )


def _architecture(draw: st.DrawFn, subject: Subject, name: str) -> Architecture:
    """Draw a network with at least one layer that marks the family.

    It has at least two parameters, of which one may be frozen.
    """
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
    kind: ParameterKind, name: str
) -> tuple[Mapping[int, Sequence[AnyLayer]], Sequence[NetworkStart], Sequence[AnyLayer]]:
    """The part of a family that an optimizer of `kind` can train.

    This is its menus, its inputs, and the layers that mark it and may come first.
    """
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


def trainable_families(subject: Subject) -> list[str]:
    """Names of the families that have networks that this optimizer can train."""
    return [name for name in FAMILIES if _fitting(subject.parameters, name)[1]]
