"""Reductions: each is a case that is no larger, and in which a correct optimizer breaks nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from frostproof.generation.cases import cases
from frostproof.generation.reduction import reductions
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.probe import probe
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import Linear, LoRALinear, Residual, Tanh
from frostproof.spec.program import (
    AddFrozen,
    Freeze,
    SaveLoad,
    Step,
    Thaw,
    frozen_at_events,
    mask_changes,
)
from frostproof.verification.verification import Verification
from tests.helpers.broken_programs import Heavy

SOUND = probe(subjects(Heavy)[0], "cpu")


@given(cases(SOUND))
@settings(max_examples=60, deadline=None)
def test_a_reduction_is_a_case_that_is_no_larger(case: Case) -> None:
    found = list(reductions(case, SOUND))
    for reduced in found:
        reduced.check()
        assert reduced.size <= case.size
        assert Case.from_json(reduced.to_json()) == reduced
        frozen = frozenset(reduced.mask)
        for event, (*_, after) in zip(
            reduced.program, frozen_at_events(reduced.program, reduced.mask), strict=True
        ):
            added = (event,) if isinstance(event, AddFrozen) else ()
            for change in (*mask_changes(event), *added):
                assert change.names
                assert len(mask_changes(event)) > 1 or (
                    frozen.isdisjoint(change.names)
                    if isinstance(change, Freeze)
                    else frozen >= {*change.names}
                )
            frozen = after
    assert len({each.to_json() for each in found}) > 3 or len(case.program) == 1


@given(cases(SOUND), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_a_correct_optimizer_breaks_nothing_in_a_reduction(case: Case, random: Any) -> None:
    verification = Verification(SOUND, "cpu", strict=True)
    with fenced("cpu"):
        reduced = case
        for _ in range(4):
            choices = list(reductions(reduced, SOUND))
            if not choices:
                return
            reduced = random.choice(choices)
            assert verification.find_violations(reduced) == {}, reduced


NAMES = tuple(f"1.{each}" for each in ("base.weight", "base.bias", "down", "up"))
LARGE = Case(
    Architecture(Input((3,)), (Residual((Linear(3), Tanh())), LoRALinear(4, 1))),
    NAMES[:1],
    (
        Group(("0.0.weight", "0.0.bias"), (("lr", 0.1), ("momentum", 0.9))),
        Group(NAMES, (("lr", 0.5), ("momentum", 0.0))),
    ),
    (
        Step(after_backward=(Freeze(NAMES[2:], "zeros"),)),
        *[Step()] * 6,
        SaveLoad(),
        Thaw(NAMES[:1]),
        Step(micro_batches=2),
    ),
    batch=2,
)


def test_layers_become_plain_and_events_go() -> None:
    found = list(reductions(LARGE, SOUND))
    networks = [getattr(each.architecture, "layers", ()) for each in found]
    assert (Residual((Linear(3), Tanh())),) in networks
    assert (LoRALinear(4, 1),) in networks
    assert (Linear(3), Tanh(), LoRALinear(4, 1)) not in networks, "that would be more layers"
    plain = next(each for each in found if "1.bias" in each.positions)
    assert plain.mask == ("1.weight",)
    assert plain.program[0] == Step(), "what it freezes is frozen"
    programs = [each.program for each in found]
    assert (*LARGE.program[:1], *[Step()] * 3, *LARGE.program[7:]) in programs
    assert LARGE.program[:7] + LARGE.program[8:] in programs
    assert (*LARGE.program[:-1], Step()) in programs
    assert any(each.program[0] == Step(after_backward=(Freeze(NAMES[2:]),)) for each in found)
    assert any(len(each.groups) == 1 for each in found)
