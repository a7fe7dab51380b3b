"""The claims of the forum thread: their verdicts, what flips these, and the documents."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import strategies as st

from frostproof.applications.forum_claims import CLAIMS
from frostproof.applications.forum_claims.claim import Claim
from frostproof.applications.forum_claims.script import claim_script
from frostproof.applications.forum_claims.survey import ClaimSurvey, settle_claim
from frostproof.applications.forum_claims.verdict import ExampleCounts, decide_claim
from frostproof.doors.command.main import main
from frostproof_properties.test_claims import SETTLED
from tests.helpers import other_torch
from tests.helpers.other_torch import Plant

ROOT = Path(__file__).parents[2]
CLAIMS_BY_ID = {claim.id: claim for claim in CLAIMS}


def _claim(holds: Callable[[int], bool], condition: Callable[[int], bool] | None = None) -> Claim:
    """A claim about the numbers from 0 to 99."""
    return Claim(
        "numbers",
        {"first post": "a number"},
        "It holds.",
        {"number": st.integers(0, 99)},
        lambda number: (holds(number), f"{number}"),
        "it is small" if condition else "",
        condition,
    )


def test_a_claim_that_always_holds_is_true() -> None:
    found = decide_claim(_claim(lambda number: number >= 0), 30)
    assert found.word == "true"
    assert found.counts == ExampleCounts(30, 0, 0, 0)
    assert [(each.example, each.held) for each in found.shown] == [({"number": 0}, True)]


def test_a_false_claim_comes_with_the_smallest_counterexample() -> None:
    found = decide_claim(_claim(lambda number: number < 7), 30)
    assert found.word == "false"
    assert found.counts.met_held + found.counts.met_failed == 30
    assert [(each.example, each.held, each.seen) for each in found.shown] == [
        ({"number": 7}, False, "7")
    ]


def test_an_exact_condition_is_shown_from_both_sides() -> None:
    found = decide_claim(_claim(lambda number: number < 50, lambda number: number < 50), 60)
    assert found.word == "true only if"
    assert found.counts.met_failed == found.counts.unmet_held == 0
    assert found.counts.met_held + found.counts.unmet_failed == 60
    assert [(each.example, each.held) for each in found.shown] == [
        ({"number": 50}, False),
        ({"number": 0}, True),
    ]


@pytest.mark.parametrize(
    ("limit", "number", "held"),
    [(60, 50, False), (40, 40, True)],
    ids=["it fails though it is met", "it holds though it is not met"],
)
def test_a_condition_that_is_not_exact_makes_no_claim_true(
    limit: int, number: int, held: bool
) -> None:
    found = decide_claim(_claim(lambda number: number < 50, lambda number: number < limit), 100)
    assert found.word == "false"
    assert [(each.example, each.held) for each in found.shown] == [({"number": number}, held)]


@pytest.mark.parametrize("met", [True, False])
def test_a_condition_of_which_one_side_was_never_seen_decides_nothing(met: bool) -> None:
    found = decide_claim(_claim(lambda number: met, lambda number: met), 30)
    assert found.word == "undecided"
    assert found.counts == (ExampleCounts(30, 0, 0, 0) if met else ExampleCounts(0, 0, 0, 30))


def test_a_claim_that_fails_under_its_condition_is_false_though_nothing_else_was_seen() -> None:
    assert decide_claim(_claim(lambda number: number < 50, lambda number: True), 60).word == "false"


def test_a_condition_that_is_not_needed_is_dropped() -> None:
    assert decide_claim(_claim(lambda number: True, lambda number: number < 50), 60).word == "true"


def test_there_are_no_more_examples_than_there_are() -> None:
    assert decide_claim(CLAIMS_BY_ID["optimizer-checks-requires-grad"], 1000).counts.tried < 200


def test_a_seed_gives_the_same_verdict_again() -> None:
    found = [decide_claim(CLAIMS_BY_ID["functionally-equivalent"], 20, seed) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0].counts != found[2].counts


FLIPS: list[tuple[Plant, str, str]] = [
    (other_torch.decays_everything, "same-results", "false"),
    (other_torch.clips_nothing, "functionally-equivalent", "true"),
    (other_torch.never_steps, "equivalent-to-freezing", "true"),
    (other_torch.trains_by_itself, "not-passed-is-static", "false"),
    (other_torch.replaces_gradients, "accumulate", "false"),
    (other_torch.leftovers_count, "right-gradients", "false"),
    (other_torch.leftovers_count, "wrong-after-the-first-step", "true"),
    (other_torch.leftovers_count, "previous-layers-affected", "true"),
    (other_torch.replaces_gradients, "edge-case", "false"),
    (other_torch.clips_nothing, "zeroing-suffices", "true"),
    (other_torch.clips_nothing, "zeroing-matters", "false"),
    (other_torch.checks_requires_grad, "optimizer-checks-requires-grad", "true"),
    (other_torch.zeroes_nothing, "frozen-gradients-zeroed", "false"),
    (other_torch.ignores_requires_grad, "both-calculate-gradients", "true"),
    (other_torch.ignores_requires_grad, "needed-to-backprop", "true"),
    (other_torch.ignores_requires_grad, "significant-overhead", "false"),
    (other_torch.ignores_requires_grad, "trained-layers-alone", "false"),
    (other_torch.ignores_inputs, "earlier-gradients-left-out", "false"),
    (other_torch.ignores_requires_grad, "best-practice", "false"),
    (other_torch.ignores_requires_grad, "freezing-saves-memory", "false"),
    (other_torch.raises_nothing, "no-grad-raises", "false"),
    (other_torch.decays_everything, "no-grad-stops-the-model", "false"),
    (other_torch.ignores_requires_grad, "frozen-leaves-make-leaves", "false"),
    (other_torch.ignores_requires_grad, "necessary-nodes-only", "false"),
    (other_torch.ignores_requires_grad, "frozen-leaves-get-nothing", "false"),
]


@pytest.mark.parametrize(
    ("plant", "identity", "flipped"),
    FLIPS,
    ids=[f"{plant.__name__}-{identity}" for plant, identity, _ in FLIPS],
)
def test_another_torch_flips_the_verdict(
    plant: Plant, identity: str, flipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert flipped != SETTLED[identity]
    # So few may miss one side of a condition.
    assert any(
        decide_claim(CLAIMS_BY_ID[identity], examples).word == flipped for examples in (30, 300)
    )


def test_every_verdict_can_be_flipped() -> None:
    assert {identity for _, identity, _ in FLIPS} == CLAIMS_BY_ID.keys()


def test_one_optimizer_that_checks_leaves_the_next_as_the_counterexample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other_torch.sgd_checks_requires_grad(monkeypatch)
    found = decide_claim(CLAIMS_BY_ID["optimizer-checks-requires-grad"], 100)
    assert found.word == "false"
    assert found.shown[0].example == {"optimizer": ("Adam", {}), "gradient": 1.0}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_script_needs_torch_alone(claim: Claim) -> None:
    text = claim_script(claim, decide_claim(claim, 1).shown[0].example)
    tree = ast.parse(text)
    modules = {
        each.name for node in tree.body if isinstance(node, ast.Import) for each in node.names
    }
    modules |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in modules} <= {"torch", *sys.stdlib_module_names}
    assert "frostproof" not in text
    assert sum(bool(line) for line in text.splitlines()) < 60
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("identity", "code"),
    [("optimizer-checks-requires-grad", 1), ("functionally-equivalent", 1), ("best-practice", 0)],
)
def test_a_script_exits_as_it_says(identity: str, code: int, tmp_path: Path) -> None:
    found = settle_claim(CLAIMS_BY_ID[identity], 100, 0)
    assert found.verdict == SETTLED[identity], found.doubt
    (tmp_path / "claim.py").write_text(found.script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "claim.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    if code:
        assert done.stderr.splitlines()[-1] == f"{identity}: {found.shown[0].seen}"
    else:
        assert done.stdout.splitlines()[-1] == found.shown[0].seen


def test_what_a_script_does_not_show_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    other_torch.checks_requires_grad(monkeypatch)  # here, and not in the process of the script
    found = settle_claim(CLAIMS_BY_ID["optimizer-checks-requires-grad"], 20, 0)
    assert found.verdict == "undecided"
    assert found.doubt.startswith("optimizer-checks-requires-grad: ")


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["claims", *arguments])


def test_the_command_says_and_writes_every_verdict(tmp_path: Path) -> None:
    files = (
        "--json",
        str(tmp_path / "claims.json"),
        "--markdown",
        str(tmp_path / "claims.md"),
        "--cases",
        str(tmp_path / "cases"),
    )
    done = _run("--examples", "3", "--seed", "4", *files)
    assert done.exit_code == 0, done.output
    found = msgspec.json.decode((tmp_path / "claims.json").read_bytes(), type=ClaimSurvey)
    assert [row.id for row in found.claims] == [claim.id for claim in CLAIMS]
    assert (found.examples, found.seed) == (3, 4)
    assert json.loads((tmp_path / "claims.json").read_text())["format"] == "frostproof-claims"
    page = (tmp_path / "claims.md").read_text(encoding="utf-8")
    for row in found.claims:
        assert not row.doubt
        assert re.search(rf"^{row.verdict} +{row.id}$", done.output, re.MULTILINE)
        assert f"\n## {row.id}\n" in page
        assert f"**{row.verdict.capitalize()}**" in page
        assert (tmp_path / "cases" / f"claim-{row.id}.py").read_text() == row.script
    assert done.output.splitlines()[-1].startswith(f"{len(CLAIMS)} claims: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--examples", "0"), "0 is not in the range x>=1"),
        (("--seed", "-1"), "-1 is not in the range x>=0"),
        (("--json", "nowhere/claims.json"), "make its folder first"),
        (("--markdown", "nowhere/claims.md"), "make its folder first"),
        (("--cases", "file"), "name one that can be made"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    done = _run(*arguments)
    assert done.exit_code == 2
    (line,) = done.output.splitlines()
    assert line.startswith("frostproof: ")
    assert said in line


def test_the_document_has_the_verdicts_that_the_suite_demands() -> None:
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## ([a-z-]+)$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    said = {
        identity: re.findall(r"^\*\*(True|False|True only if)\*\*", body, re.MULTILINE)
        for identity, body in sections
    }
    assert said == {identity: [word.capitalize()] for identity, word in SETTLED.items()}
