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
from frostproof.architecture import Architecture
from frostproof.case import Case, Group
from frostproof.layers import ParameterSpec
from frostproof.menus import GENES, INPUTS_OF, MAX_LAYERS, layers_from, nested
from frostproof.program import AnyEvent, BackwardUnderNoGrad, Program, Step, ZeroGrad
from frostproof.subject import Kind, Options, Subject

Choices = tuple[Any, tuple[Any, ...]]

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
MAX_EVENTS = 5


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
