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

from frostproof.generation import masks
from frostproof.generation.networks import (
    DRAWN_MAX_LAYERS,
    GENES,
    INPUTS_OF,
    layers_from,
    menus_of,
    nest_layers,
)
from frostproof.generation.programs import (
    DRAWN_MAX_EVENTS,
    EVENT_END,
    EVENT_GENES,
    group_by_layer,
    program_from,
)
from frostproof.spec.architecture import Architecture
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import ParameterSpec
from frostproof.spec.program import Program, Thaw, mask_changes
from frostproof.spec.subject import Kind, Options, Space, Subject

Choices = tuple[Any, tuple[Any, ...]]

MASKS = tuple(
    (kind, whole) for kind in masks.KINDS for whole in (True, False) if whole or kind != "none"
)
"""Kinds of masks, over whole layers and over single parameters."""


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
    "extras": (
        (),
        (
            ("cleared", "second"),
            ("cleared",),
            ("second",),
            ("again",),
            ("rebuilt",),
            ("cleared", "second", "again", "rebuilt"),
        ),
    ),
    "eval": (False, (True,)),
    "dtype": (0, (1, 2)),
    "groups": (
        (1, False, False),
        (
            (2, False, False),
            (2, True, False),
            (3, False, False),
            (3, True, False),
            (2, False, True),
            (3, True, True),
        ),
    ),
    "batch": (0, (1, 2, 3)),
    "late": (False, (True,)),
    "nesting": ("flat", ("tail", "pairs", "deep")),
    "input": (False, (True, False, True)),
}
"""What is beside the point of most cases: the simplest value, and the others."""


def split_into_groups(
    names: Sequence[str], options: Sequence[Options], interleaved: bool
) -> tuple[Group, ...]:
    """A parameter group for each of `options`: every n-th parameter, or the n-th stretch of them."""
    n = min(len(options), len(names))
    if interleaved:
        members = [names[i::n] for i in range(n)]
    else:
        cuts = [i * len(names) // n for i in range(n + 1)]
        members = [names[cuts[i] : cuts[i + 1]] for i in range(n)]
    return tuple(
        Group(tuple(member), choice) for member, choice in zip(members, options, strict=False)
    )


def with_late_groups(
    groups: Sequence[Group], mask: Sequence[str], program: Program
) -> tuple[Group, ...]:
    """The groups, with what is frozen at first and thawed later in groups of its own behind them, in the order of thawing.

    B adds such a group when it is thawed; A then has it from the start, and both have the same groups in the same order.
    """
    thawed: dict[str, int] = {}
    for number, event in enumerate(program):
        for each in mask_changes(event):
            if isinstance(each, Thaw):
                thawed |= {
                    name: number for name in each.names if name in mask and name not in thawed
                }
    found = [
        (number, group)
        for group in groups
        for number in {thawed.get(name, -1): None for name in group.parameters}
    ]
    found.sort(key=lambda pair: pair[0])
    return tuple(
        Group(
            tuple(name for name in group.parameters if thawed.get(name, -1) == number),
            group.options,
        )
        for number, group in found
    )


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

    def listed(longest: int, genes: int, end: int, width: int = 1) -> list[tuple[int, ...]]:
        """Up to `longest` tuples of `width` genes, the first of each stretched so that those which do not end the list use the
        whole range.

        The list ends with a draw of its own even where it is full, so that deleting any gene leaves a list that ends.
        """
        nonlocal place
        found, start = [tuple(pick(genes) for _ in range(width))], place
        while (drawn := tuple(pick(genes) for _ in range(width)))[0] >= end and len(
            found
        ) < longest:
            found.append(drawn)
        place = start + width * longest + 1
        return [(_stretched(first, end, genes), *others) for first, *others in found]

    kind = subject.parameters
    inputs = INPUTS_OF[kind]
    given, first = inputs[pick(len(inputs))]
    layers = layers_from(
        [gene for (gene,) in listed(DRAWN_MAX_LAYERS, GENES, END)],
        given.shape,
        first,
        menus_of(kind),
    )
    aspect = dict(zip(ASPECTS, pick_values(list(ASPECTS.values()), pick), strict=True))
    architecture = Architecture(given, nest_layers(layers, aspect["nesting"]))
    parameters = architecture.parameters
    names = [parameter.name for parameter in parameters]

    mask_kind, whole = MASKS[pick(len(MASKS))]
    frozen = set(
        masks.frozen_members(
            mask_kind, group_by_layer(names) if whole else [[name] for name in names], pick(256)
        )
    )
    mask = tuple(
        parameter.name
        for parameter in parameters
        if parameter.name in frozen or _unfit(parameter, kind)
    )

    unfit = frozenset(parameter.name for parameter in parameters if _unfit(parameter, kind))
    fit = [name for name in names if name not in unfit]
    program = program_from(
        listed(DRAWN_MAX_EVENTS, EVENT_GENES, EVENT_END, 2), architecture, fit, mask, subject
    )
    seed = pick(1 << 16)
    # What may be drawn more than once comes last: with fewer groups nothing else then reads another draw.
    count, interleaved, unlike = aspect["groups"] if subject.groups else (1, False, False)
    count = min(count, len(names))
    options = [draw_options(draw, subject.space, pick) for _ in range(count if unlike else 1)]
    groups = split_into_groups(names, options if unlike else options * count, interleaved)
    return Case(
        architecture,
        mask,
        with_late_groups(groups, mask, program) if aspect["late"] and subject.groups else groups,
        program,
        dtype=subject.dtypes[min(aspect["dtype"], len(subject.dtypes) - 1)],
        batch=(2 if any(place.layer.needs_many for place in architecture.places) else 1)
        + aspect["batch"],
        input_requires_grad=aspect["input"] and not given.vocabulary,
        frozen_in_eval=aspect["eval"],
        extras=aspect["extras"],
        seed=seed,
    )


def draw_options(draw: st.DrawFn, space: Space, pick: Callable[[int], int]) -> Options:
    """Hyperparameters for one group; `pick(n)` draws an integer below n."""
    if isinstance(space, st.SearchStrategy):
        return tuple(draw(space).items())
    return sum(pick_values([(choice[0], choice[1:] or choice) for choice in space], pick), ())


def _stretched(gene: int, end: int, genes: int) -> int:
    """A gene that does not end a list, over the whole range. The first of a list, which cannot end it, is read in the same way,
    so that the others mean the same where shrinking deletes it."""
    return max(gene - end, 0) * genes // (genes - end)


def pick_values(choices: Sequence[Choices], pick: Callable[[int], int]) -> list[Any]:
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
