"""The harness tests itself: planted bugs are caught, correct optimizers are not flagged."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from torch.optim import Optimizer

from frostproof.counterexamples.script import script
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
from tests.helpers.script_runs import assert_fails_until_mended
from tests.helpers.search import finds, flagged, search
from tests.helpers.suspicious import CORRECT, Signs

SEEDS = range(2)  # benchmarks/planted.py takes as many as one likes, also of correct optimizers


@pytest.mark.parametrize(
    "bug", [*BUGS, *PROGRAM_BUGS, *RARE_BUGS], ids=lambda bug: f"{bug.invariant}-{bug.name}"
)
def test_a_planted_bug_is_caught_and_its_script_fails_until_it_is_mended(
    bug: Planted, tmp_path: Path
) -> None:
    """With one of two seeds. The script is long, as nothing is shrunk."""
    searches = ((each, each.tallies[bug.invariant].shown) for each in finds(bug, SEEDS))
    verification, shown = next(found for found in searches if found[1] is not None)
    assert shown is not None
    with fenced("cpu"):
        text = script(shown, verification.subject, bug.approaches)
    assert "frostproof" not in text.replace("# ", "")
    broken = assert_fails_until_mended(text, bug.invariant, bug.approaches, tmp_path)
    if bug.name in text:  # else it has functions that somebody else formatted
        formats = f"{sys.executable} -m ruff format --isolated --line-length 100 --diff {broken}"
        done = subprocess.run(formats.split(), capture_output=True, text=True, check=False)
        assert done.stdout == ""


def test_every_invariant_has_an_easy_and_a_hard_bug() -> None:
    planted = Counter((bug.invariant, bug.hard) for bug in (*BUGS, *PROGRAM_BUGS, *RARE_BUGS))
    alone = [each.id for each in INVARIANTS if each.applies_in is None]
    assert all(planted[identity, hard] for identity in alone for hard in (False, True))


@pytest.mark.parametrize("optimizer", CORRECT, ids=lambda optimizer: optimizer.__name__)
def test_a_correct_optimizer_is_never_flagged(optimizer: type[Optimizer]) -> None:
    (subject,) = subjects(optimizer)
    verification = Verification(subject, "cpu", strict=True)
    search(verification, seed=0, examples=50)
    assert not flagged(verification)
    assert verification.trials > 25
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
