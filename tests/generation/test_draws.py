"""A seed draws the same cases in every process."""

from __future__ import annotations

import importlib
from pathlib import Path

import hypothesis
import pytest
from hypothesis import Phase, given, settings

from frostproof.generation.cases import cases
from frostproof.invariants.invariant import Invariant
from frostproof.optimizers.targets import resolve
from frostproof.process.fence import fenced
from frostproof.spec.case import Case
from frostproof.verification.search import search_violations
from frostproof.verification.verification import Verification

SGD = resolve(["torch.optim:SGD"])[0]


def _by_hypothesis() -> list[Case]:
    seen: list[Case] = []

    @hypothesis.seed(0)
    @settings(max_examples=40, database=None, phases=(Phase.generate,))
    @given(cases(SGD))
    def draw(case: Case) -> None:
        seen.append(case)

    draw()
    return seen


def _by_search(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    seen: list[Case] = []

    def find_violations(case: Case, muted: object) -> dict[Invariant, str]:
        seen.append(case)
        return {}

    verification = Verification(SGD, "cpu")
    monkeypatch.setattr(verification, "find_violations", find_violations)
    with fenced("cpu"):
        verification.prepare()
        search_violations(verification, 40, seed=0)
    return seen


def test_a_seed_searches_no_other_cases_after_the_import_of_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full_of_numbers.py").write_text(f"NUMBERS = {[*range(100, 1000)]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    hypothesis_before, search_before = _by_hypothesis(), _by_search(monkeypatch)
    importlib.import_module("full_of_numbers")
    assert _by_hypothesis() != hypothesis_before  # else this shows nothing
    assert _by_search(monkeypatch) == search_before
