"""What the documents name is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import torch

from frostproof.counterexamples.execution import reproduces
from frostproof.invariants.registry import INVARIANTS
from frostproof.optimizers.known_failures import KNOWN_FAILURES
from frostproof.optimizers.torch_version import torch_is
from frostproof.spec.program import AnyEvent
from frostproof.trial.divergence import CAUSES, KNOWN_VIOLATION
from frostproof_properties.facts import OPTIMIZER_NAMES, OPTIMIZING
from tests.project.test_imports import PACKAGES

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| (\d+) \|.*\| (.*) \|$",
    (ROOT / "docs" / "failure-modes.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def _facts() -> dict[str, str]:
    """The tests that state facts -> their docstrings."""
    modules = (ROOT / "properties" / "frostproof_properties").glob("test_facts_*.py")
    found = [
        each for module in modules for each in ast.parse(module.read_text(encoding="utf-8")).body
    ]
    tests = [
        each
        for each in found
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    ]
    assert len({each.name for each in tests}) == len(tests)
    return {each.name: ast.get_docstring(each) or "" for each in tests}


def test_the_table_of_failures_names_every_row_once() -> None:
    assert [int(row) for row, _ in ROWS] == list(range(1, 81))


def test_the_table_of_failures_names_what_exists_or_says_why_nothing_does() -> None:
    known = {invariant.id for invariant in INVARIANTS} | _facts().keys()
    for row, covered in ROWS:
        named = re.findall(r"`([^`]+)`", covered)
        assert covered.startswith("not covered: ") or set(named) <= known, f"row {row}"
        assert named or len(covered) > len("not covered: "), f"row {row}"


def test_every_fact_stands_in_the_rows_that_it_states() -> None:
    covered = {int(row): text for row, text in ROWS}
    for name, states in _facts().items():
        cited = re.search(r"Rows? ([\d and]+): (https://|no public report)", states)
        assert cited is not None, name
        rows = [int(row) for row in re.findall(r"\d+", cited[1])]
        assert {row for row, text in covered.items() if f"`{name}`" in text} == set(rows), name


def test_the_facts_look_at_every_optimizer_of_torch() -> None:
    assert {each.kind.__name__ for each in OPTIMIZING} | {"LBFGS", "SparseAdam"} == set(
        OPTIMIZER_NAMES
    )
    assert all(
        issubclass(getattr(torch.optim, name), torch.optim.Optimizer) for name in OPTIMIZER_NAMES
    )


def test_every_link_leads_to_a_file_and_to_a_heading_in_it() -> None:
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", text):
            target = page.parent / path if path else page
            assert target.exists(), f"{page.name}: {path}"
            assert not anchor or anchor in _anchors(target), f"{page.name}: {path}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """What links may name on a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def test_the_architecture_names_the_packages_in_order_and_what_is_in_them() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)(?:/|\.py)` \|", text, re.MULTILINE)) == PACKAGES
    package = ROOT / "harness" / "frostproof"
    for path in re.findall(r"`([\w/*]+(?:/|\.py|\.md))`", text):
        assert any(each for root in (ROOT, package) for each in root.glob(path)), path
    for name, path in re.findall(r"`(\w+)` \(`([\w/]+\.py)`", text):
        defined = rf"^\s*(?:def |class )?{name}\b|import .*\b{name}\b"
        source = (package / path).read_text(encoding="utf-8")
        assert re.search(defined, source, re.MULTILINE), name


def test_the_page_of_programs_has_every_event_and_every_cause() -> None:
    text = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
    events, _, rest = text.partition("## Where two approaches may differ")
    kinds = {kind.__name__ for kind in get_args(AnyEvent)} | {"Clip"}
    assert kinds <= {*re.findall(r"`(\w+)`", events)}
    rows = re.findall(r"^\| ([a-z-]+) \|", rest.partition("## ")[0], re.MULTILINE)
    assert {*rows} - {"cause", "---"} == {*CAUSES, KNOWN_VIOLATION}


def test_the_script_of_a_finding_shows_what_it_says(tmp_path: Path) -> None:
    (script,) = re.findall(
        r"^```python\n(.*?)^```$",
        (ROOT / "docs" / "torch-findings.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    path = tmp_path / "script.py"
    path.write_text(script, encoding="utf-8")
    shown = reproduces(path, "thaw-resumes", tmp_path)
    fused = KNOWN_FAILURES["torch.optim.sgd.SGD", "fused"]["expected_failures"]
    assert shown.reproduced == torch_is(fused["thaw-resumes"].releases), shown.said
