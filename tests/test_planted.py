"""The harness tests itself: planted bugs are caught, correct optimizers are not flagged."""

from __future__ import annotations

from collections import Counter

import pytest
from torch.optim import Optimizer

from frostproof.invariants import INVARIANTS
from frostproof.subject import AUTOGRAD
from frostproof.target import subjects_of
from frostproof.verification import Verification
from tests.planted import BUGS, Planted
from tests.planted_programs import PROGRAM_BUGS
from tests.search import search
from tests.suspicious import CORRECT

SEEDS = range(20)
FEWER = range(10)  # where each runs to the end


@pytest.mark.parametrize("bug", [*BUGS, *PROGRAM_BUGS], ids=lambda bug: f"{bug.invariant}-{bug.name}")
def test_a_planted_bug_is_caught_by_the_invariant_that_it_breaks(bug: Planted) -> None:
    missed = []
    for seed in SEEDS:
        subject = AUTOGRAD if bug.optimizer is None else subjects_of(bug.optimizer)[0]
        verification = Verification(subject, "cpu", approaches=bug.approaches)
        search(verification, seed, wanted=bug.invariant)
        if not verification.tallies[bug.invariant].violated:
            missed.append(seed)
    assert len(missed) <= (2 if bug in PROGRAM_BUGS else 1), f"missed with seeds {missed}"


def test_every_invariant_has_an_easy_and_a_hard_bug() -> None:
    planted = Counter((bug.invariant, bug.hard) for bug in (*BUGS, *PROGRAM_BUGS))
    assert all(planted[invariant.id, hard] for invariant in INVARIANTS for hard in (False, True))


@pytest.mark.parametrize("optimizer", CORRECT, ids=lambda optimizer: optimizer.__name__)
def test_a_correct_optimizer_is_never_flagged(optimizer: type[Optimizer]) -> None:
    for seed in FEWER:
        verification = Verification(subjects_of(optimizer)[0], "cpu", strict=True)
        search(verification, seed)
        flagged = {identity: tally.message for identity, tally in verification.tallies.items() if tally.violated}
        assert not flagged, f"seed {seed}"
        assert verification.trials > 50
        assert not verification.rejected
