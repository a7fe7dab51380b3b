"""Hypothesis strategies for cases.

Each draw costs Hypothesis time. A draw is therefore a small integer, from a strategy that is built
once, and it selects a prebuilt spec from a menu. Menus go from simple to complex, because integers
shrink to 0. Drawn parts fit by construction, so that nothing is filtered out.

Two rules keep the search and its shrinking effective:

- Draws whose number varies come last, or end with a draw of their own. Otherwise, when one value
  shrinks, the draws after it get another meaning.
- Each place in a case draws from its own strategy. Otherwise the mutator of Hypothesis copies
  numbers between places, and most of its examples are such copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from math import prod
from typing import Any, NamedTuple

from hypothesis import strategies as st

from frostproof.generation import masks
from frostproof.generation.networks import (
    COMPILED_MAX_LAYERS,
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
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import AnyLayer, ParameterSpec
from frostproof.spec.program import Program, Step, Thaw, mask_changes
from frostproof.spec.setting import MORE_THAN_THE_LIMIT
from frostproof.spec.subject import Options, ParameterKind, Subject
from frostproof.spec.user_model import ModelUnderTest, UserModel

Choices = tuple[Any, tuple[Any, ...]]

MASKS = tuple(
    (kind, whole) for kind in masks.KINDS for whole in (True, False) if whole or kind != "none"
)
"""Kinds of masks, over whole layers and over single parameters."""


@cache
def _numbers_of_place(place: int, n: int) -> st.SearchStrategy[int]:
    """The integers below n, shifted by the number of a place in the case.

    Hypothesis makes up to five examples of one by copying between draws with the same label, which
    here would use a layer's number for a mask. Strategies over different numbers have different
    labels.
    """
    return st.sampled_from(range(place << 20, (place << 20) + n))


END = 42
"""As many numbers end the list of layers, unless they are the first.

A list then needs one draw per element, and shrinking can delete any element.
"""

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
    "dtype": (0, (1, 2, 2)),
    "groups": (
        (1, False, False),
        (
            (2, False, False),
            (2, True, False),
            (3, False, False),
            (3, True, False),
            (2, False, True),
            (2, True, True),
            (3, False, True),
            (3, True, True),
        ),
    ),
    "batch": (0, (1, 2, 3)),
    "late": (False, (True,)),
    "nesting": ("flat", ("tail", "pairs", "deep")),
    "input": (False, (True, False, True)),
    "alone": (False, (True, True, False)),
}
"""Optional aspects of a case: (default, alternatives). Most cases keep the default."""


def split_into_groups(
    names: Sequence[str], options: Sequence[Options], interleaved: bool
) -> tuple[Group, ...]:
    """One group for each of `options`: every n-th parameter if interleaved, else n slices."""
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
    """Move parameters that are frozen at first and thawed later into groups at the end.

    These are in the order of thawing. B adds such a group when it is thawed, and A has it from the
    start, so that both have the same groups in the same order.
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


def is_trained(kind: ParameterKind, parameter: ParameterSpec) -> bool:
    """Whether a subject of this kind can train the parameter."""
    rank = len(parameter.shape)
    return {
        "any": not parameter.sparse,
        "up-to-2d": rank <= 2,
        "matrices": rank == 2,
        "sparse": parameter.sparse,
    }[kind]


def _divisible(subject: Subject) -> Subject:
    """The subject in programs in which each parameter has an optimizer of its own.

    Several optimizers can share neither a closure nor what a GradScaler tells a fused one.
    """
    return replace(subject, closure="never", unable=(*subject.unable, "scaler"))


class _Draws:
    """Draws integers: `number(place, n)` is one below n, for each place of the case."""

    def __init__(self, number: Callable[[int, int], int]) -> None:
        self.number, self.place = number, 0

    def pick(self, n: int) -> int:
        """An integer below n."""
        self.place += 1
        return self.number(self.place, n)

    def genes(self, longest: int, genes: int, end: int, width: int = 1) -> list[tuple[int, ...]]:
        """Up to `longest` tuples of `width` genes, which are numbers below `genes`.

        The first gene of each tuple is drawn higher by `end`. Below `end` it ends the list, but
        counts as 0 in the first tuple, so that the others keep their meaning when shrinking deletes
        that. Even a full list ends with a draw of its own, so that a list without one of its tuples
        still ends.
        """

        def one() -> list[int]:
            return [self.pick(genes + end) - end, *(self.pick(genes) for _ in range(1, width))]

        found, start = [one()], self.place
        while True:
            drawn = one()
            if drawn[0] < 0 or len(found) == longest:
                break
            found.append(drawn)
        self.place = start + width * longest + 1
        return [(max(first, 0), *others) for first, *others in found]


class _Frozen(NamedTuple):
    """A network, and its frozen parameters at first."""

    network: Architecture | UserModel
    mask: tuple[str, ...]
    unfit: frozenset[str]
    """The names of parameters that the subject cannot train, which are then always frozen."""


def _drawn_network(draws: _Draws, subject: Subject) -> tuple[Input, tuple[AnyLayer, ...]]:
    inputs = INPUTS_OF[subject.parameters]
    given, first = inputs[draws.pick(len(inputs))]
    longest = COMPILED_MAX_LAYERS if subject.setting.compiles else DRAWN_MAX_LAYERS
    layer_genes = [gene for (gene,) in draws.genes(longest, GENES, END)]
    menus = menus_of(subject.parameters, elements=int("zero-elements" in subject.unable))
    return given, layers_from(layer_genes, given.shape, first, menus)


def _frozen_network(draws: _Draws, network: Architecture, kind: ParameterKind) -> _Frozen:
    names = [parameter.name for parameter in network.parameters]
    mask_kind, whole = MASKS[draws.pick(len(MASKS))]
    units = group_by_layer(names) if whole else [[name] for name in names]
    sparse = kind == "sparse"
    unfit = frozenset(p.name for p in network.parameters if sparse and not is_trained(kind, p))
    frozen = {*masks.frozen_members(mask_kind, units, draws.pick(256)), *unfit}
    return _Frozen(network, tuple(name for name in names if name in frozen), unfit)


def _frozen_model(draws: _Draws, given: ModelUnderTest) -> _Frozen:
    modules = group_by_layer(parameter.name for parameter in given.network.parameters)
    kind = masks.AROUND[draws.pick(len(masks.AROUND))]
    mask = masks.around(kind, given.frozen, modules, draws.pick(256))
    return _Frozen(given.network, mask, frozenset())


@st.composite
def _cases(draw: st.DrawFn, subject: Subject, model: ModelUnderTest | None, has_way: bool) -> Case:
    def number(place: int, n: int) -> int:
        return draw(_numbers_of_place(place, n)) & 0xFFFFF

    return case_from(number, draw, subject, model, has_way)


def case_from(
    number: Callable[[int, int], int],
    draw: Callable[[st.SearchStrategy[Any]], Any],
    subject: Subject,
    model: ModelUnderTest | None = None,
    has_way: bool = False,
) -> Case:
    """The case that these draws make.

    `number(place, n)` draws an integer below n for a place of the case, and `draw` what a Subject
    gives as a strategy.
    """
    draws, kind = _Draws(number), subject.parameters
    pick = draws.pick
    drawn = None if model is not None else _drawn_network(draws, subject)
    aspect = dict(zip(ASPECTS, pick_values([*ASPECTS.values()], pick), strict=True))
    if model is not None:
        network, mask, unfit = _frozen_model(draws, model)
    else:
        assert drawn is not None
        given, layers = drawn
        architecture = Architecture(given, nest_layers(layers, aspect["nesting"]))
        network, mask, unfit = _frozen_network(draws, architecture, kind)
    names = [parameter.name for parameter in network.parameters]
    fit = [name for name in names if name not in unfit]
    # How ranks share out the parameters often shows only beside optimizers that have one each.
    dealt_out = subject.setting.ranks > 1 and bool(pick(2))
    alone = (aspect["alone"] or dealt_out) and subject.coupled is None
    genes = draws.genes(DRAWN_MAX_EVENTS, EVENT_GENES, EVENT_END, 2)
    able = _divisible(subject) if alone else subject
    # Half of the programs end with steps that show whether each of them is compiled anew.
    run = MORE_THAN_THE_LIMIT * pick(2) if subject.setting.step else 0
    program = program_from(genes, network, fit, mask, able, run)
    if has_way and "set_to_none" not in subject.unable and pick(2):
        program = tuple(Step(set_to_none=False) if e == Step() else e for e in program)
    seed = pick(1 << 16)
    # Hyperparameters may be drawn several times, and so they come last.
    count, interleaved, unlike = aspect["groups"] if subject.groups else (1, False, False)
    count = min(count, len(names))
    unlike = unlike or alone  # what groups wrongly share shows only where they are unlike
    options = [draw_options(draw, subject, pick) for _ in range(count if unlike else 1)]
    groups = split_into_groups(names, options if unlike else options * count, interleaved)
    dtypes = subject.dtypes if model is None else ("float32",)
    return Case(
        network,
        mask,
        with_late_groups(groups, mask, program) if aspect["late"] and subject.groups else groups,
        program,
        dtype=dtypes[min(aspect["dtype"], len(dtypes) - 1)],
        batch=(2 if network.needs_many else 1) + aspect["batch"] if model is None else 1,
        input_requires_grad=aspect["input"] and not network.tokens,
        frozen_in_eval=aspect["eval"],
        extras=(
            # A copy that compiles takes seconds, so that there is only one of them.
            *(aspect["extras"][:1] if subject.setting.compiles else aspect["extras"]),
            *(("alone",) if alone else ()),
            *(("eager",) if subject.setting.step else ()),
        ),
        seed=seed,
    )


def draw_options(
    draw: Callable[[Any], Any], subject: Subject, pick: Callable[[int], int]
) -> Options:
    """Hyperparameters for one group; `pick(n)` draws an integer below n."""
    if isinstance(subject.space, st.SearchStrategy):
        return tuple(draw(subject.space).items())
    choices: list[Choices] = [(choice[0], choice[1:] or choice) for choice in subject.choices]
    return sum(pick_values(choices, pick), ())


def pick_values(choices: Sequence[Choices], pick: Callable[[int], int]) -> list[Any]:
    """A value for each choice, always in two draws.

    A bit of the first draw tells whether a choice keeps its simplest value. The second draw has the
    numbers of the alternatives, in mixed radix.
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


def cases(
    subject: Subject, model: ModelUnderTest | None = None, *, has_way: bool = False
) -> st.SearchStrategy[Case]:
    """Cases that `subject` can train; it has been probed, or states all its capabilities.

    With a user's model, all of them train that, and its frozen parameters vary. `has_way`: whether
    the user's own way takes part, which may leave gradients that only zeroed ones show.
    """
    return _cases(subject, model, has_way)
