"""The harness tests itself: planted bugs are caught, correct optimizers are not flagged."""

from __future__ import annotations

from collections import Counter

import pytest
from torch.optim import Optimizer

from frostproof.invariants.registry import INVARIANTS
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.nothing_frozen import simplest
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import LayerNorm, Linear
from frostproof.spec.program import Step, Thaw
from frostproof.verification.verification import Verification
from tests.helpers.planted import BUGS, Planted
from tests.helpers.planted_programs import PROGRAM_BUGS
from tests.helpers.planted_rare import RARE_BUGS
from tests.helpers.search import flagged, misses, search
from tests.helpers.suspicious import CORRECT, Signs

SEEDS = range(3)  # benchmarks/planted.py takes as many as one likes
FEWER = range(2)  # where each runs to the end


@pytest.mark.parametrize(
    "bug", [*BUGS, *PROGRAM_BUGS, *RARE_BUGS], ids=lambda bug: f"{bug.invariant}-{bug.name}"
)
def test_a_planted_bug_is_caught_by_the_invariant_that_it_breaks(bug: Planted) -> None:
    missed = misses(bug, SEEDS, enough=len(SEEDS) - 1)
    assert len(missed) <= 1, f"missed with seeds {missed}"


def test_every_invariant_has_an_easy_and_a_hard_bug() -> None:
    planted = Counter((bug.invariant, bug.hard) for bug in (*BUGS, *PROGRAM_BUGS, *RARE_BUGS))
    alone = [each.id for each in INVARIANTS if not each.needs_ranks]
    assert all(planted[identity, hard] for identity in alone for hard in (False, True))


@pytest.mark.parametrize("optimizer", CORRECT, ids=lambda optimizer: optimizer.__name__)
def test_a_correct_optimizer_is_never_flagged(optimizer: type[Optimizer]) -> None:
    (subject,) = subjects(optimizer)
    for seed in FEWER:
        verification = Verification(subject, "cpu", strict=True)
        search(verification, seed)
        assert not flagged(verification), f"seed {seed}"
        assert verification.trials > 50
        assert not verification.rejected_cases


def test_what_an_overflow_left_behind_is_not_held_against_the_optimizer() -> None:
    """The gradient left in B from before the thaw is not finite, nor is its momentum after that."""
    (subject,) = subjects(Signs)
    verification = Verification(subject, "cpu", strict=True)
    architecture = Architecture(Input((2,)), (Linear(3), LayerNorm(), Linear(2)))
    names = tuple(parameter.name for parameter in architecture.parameters)
    frozen = ("0.weight", "0.bias")
    with fenced("cpu"):
        verification.prepare()
        options = simplest(verification.subject)
        program = (Step(amp="overflow"), Step(after_backward=(Thaw(frozen),)), Step())
        verification.judge(
            Case(
                architecture, frozen, (Group(names, options),), program, "float32", batch=1, seed=0
            )
        )
    assert not flagged(verification)
    assert verification.tallies["trainable-moves"].judged
