"""Scripts assert neither more nor less than the trial, where a plain comparison would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from frostproof.counterexamples.script import script
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import Embedding, Linear
from frostproof.spec.program import AnyEvent, Step
from frostproof.training.source import folded
from frostproof.verification.verification import Verification
from tests.helpers.planted import BUGS, Planted
from tests.helpers.script_runs import assert_fails_until_mended

OPTIONS = (("lr", 0.1), ("momentum", 0.9), ("weight_decay", 0.1))


def planted(name: str) -> Planted:
    return next(each for each in BUGS if each.name == name)


def assert_script_fails_until_mended(
    bug: Planted, case: Case, folder: Path, muted: Sequence[str] = ()
) -> None:
    with fenced("cpu"):
        verification = Verification(bug.subject, "cpu", approaches=bug.approaches)
        verification.prepare()
        verification.find_violations(case, muted)
        shown = verification.tallies[bug.invariant].shown
        assert shown is not None
        text = script(shown, bug.subject, bug.approaches)
    assert_fails_until_mended(text, bug.invariant, bug.approaches, folder)


def test_a_gradient_that_is_not_finite_is_not_taken_for_a_touched_one(tmp_path: Path) -> None:
    case = Case(
        Architecture(Input((2,)), (Linear(2),)),
        ("0.weight",),
        (Group(("0.weight", "0.bias"), OPTIONS),),
        (Step(amp="overflow"), Step()),
        extras=("cleared",),
        batch=4,
    )
    assert_script_fails_until_mended(planted("SubsetThatClears"), case, tmp_path)


@pytest.mark.parametrize(
    "program", [(Step(), Step()), (Step(closure=True), Step(closure=True))], ids=["", "closure"]
)
def test_a_weight_that_the_forward_pass_rewrites_is_not_taken_for_one_that_trains(
    program: tuple[AnyEvent, ...], tmp_path: Path
) -> None:
    """The embedding scales long rows down to its max_norm."""
    case = Case(
        Architecture(Input((2,), vocabulary=3), (Embedding(3, 2, max_norm=0.5), Linear(1))),
        ("1.weight", "1.bias"),
        (Group(("0.weight", "1.weight", "1.bias"), OPTIONS),),
        program,
        batch=4,
    )
    bug = planted("StopsUnderDecayAndMomentum")
    assert_script_fails_until_mended(bug, case, tmp_path, ["trainable-updates-match"])


def test_no_line_is_folded_within_an_f_string() -> None:
    """From Python 3.12 on an f-string is many tokens."""
    line = f"sys.exit(f'{'a' * 70} {{left.flatten()[i]:.9g}} -> {{right.flatten()[i]:.9g}}')"
    inner = line.removeprefix("sys.exit(").removesuffix(")")
    assert folded(line) == ["sys.exit(", f"    {inner},", ")"]
    assert folded(f"x = {inner}") == [f"x = {inner}"]
