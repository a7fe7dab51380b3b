"""The steps of the nightly workflow and of the action do their work, run as GitHub runs them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.helpers.consumer import SHY
from tests.helpers.workflows import (
    ACTION,
    DOCUMENTED,
    NIGHTLY,
    ROOT,
    Runner,
    needs_bash,
    step,
    steps,
)

STEADY = """
import torch
from torch.optim import Optimizer


class Steady(Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad.sign() * group["lr"])
"""
CARELESS = """

class {name}(Steady):
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad.sign() * group["lr"])
"""
OPTIMIZERS = STEADY + CARELESS.format(name="Careless")
NEEDY = """
from torch.optim import SGD


class Needy(SGD):
    def __init__(self, params, teacher):
        teacher.eval()
"""
FEW = "--device cpu --jobs 0 --shards 1 --max-examples 20 --seed 1 --database known"
"""A seed makes runs repeat. Failures are still remembered, because a database is named."""


def search(
    folder: Path, optimizers: str, arguments: str = FEW, cache: Path | None = None
) -> tuple[Runner, subprocess.CompletedProcess[str]]:
    """Run the job search. `cache`: what the night before kept."""
    values = {
        "matrix.library": "mylib",
        "matrix.shard": "1",
        "inputs.budget || '2h'": "5m",
        "inputs.arguments": arguments,
    }
    runner = Runner.started(folder, optimizers, values)
    if cache is not None:
        shutil.copytree(cache, runner.folder / "kept")
    return runner, runner.run(step(NIGHTLY, "Search", "search"))


def report(
    folder: Path, found: Mapping[str, Path], cache: Path | None = None
) -> tuple[Runner, subprocess.CompletedProcess[str]]:
    """Run the job report. `found`: library and shard -> the folder of that search."""
    runner = Runner.started(folder)
    for name, artifact in found.items():
        shutil.copytree(artifact, runner.folder / "found" / name)
    if cache is not None:
        shutil.copytree(cache, runner.folder / "kept")
    done = runner.run(step(NIGHTLY, "Report", "report"))
    said = runner.summary.read_text()
    assert said.count("## frostproof") == 1
    kept = runner.run(step(NIGHTLY, "Keep", "report"))
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert runner.summary.read_text() == said
    return runner, done


def violated(path: Path) -> set[str]:
    rows = json.loads(path.read_text())["subjects"]
    return {row["target"] for row in rows if row["status"] == "violated"}


def files(folder: Path) -> set[str]:
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a search found on the first night."""
    runner, done = search(tmp_path_factory.mktemp("night") / "search", OPTIMIZERS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not runner.summary.exists()
    return runner.folder / "found" / "mylib" / "1"


@pytest.fixture(scope="module")
def cache(found: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first night kept. Without anything to compare with, all was new."""
    runner, done = report(tmp_path_factory.mktemp("night") / "report", {"mylib/1": found})
    assert done.returncode == 1, done.stdout + done.stderr
    assert violated(runner.folder / "results.json") == {"mylib:Careless"}
    assert '<svg class="network"' in (runner.folder / "report.html").read_text()
    return runner.folder / "kept"


@needs_bash
def test_a_night_passes_where_an_old_violation_is_still_there(cache: Path, tmp_path: Path) -> None:
    """It is found again with a single example, as the machine remembers it."""
    runner, searched = search(tmp_path / "search", OPTIMIZERS, f"{FEW} --max-examples 1", cache)
    assert searched.returncode == 0, searched.stdout + searched.stderr
    runner, done = report(
        tmp_path / "report", {"mylib/1": runner.folder / "found" / "mylib" / "1"}, cache
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"since the last results: 0 new, \d+ fixed, [1-9]\d* still violated", done.stdout
    ), done.stdout
    assert violated(runner.folder / "kept" / "mylib" / "results.json") == {"mylib:Careless"}


@needs_bash
def test_a_night_fails_where_a_violation_is_new(cache: Path, tmp_path: Path) -> None:
    runner, searched = search(
        tmp_path / "search", OPTIMIZERS + CARELESS.format(name="Planted"), FEW, cache
    )
    assert searched.returncode == 0, searched.stdout + searched.stderr
    runner, done = report(
        tmp_path / "report", {"mylib/1": runner.folder / "found" / "mylib" / "1"}, cache
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "mylib:Planted" in re.findall(r"^  new: (\S+)", done.stdout, re.MULTILINE)
    assert "**new**" in runner.summary.read_text()
    assert violated(runner.folder / "kept" / "mylib" / "results.json") == {
        "mylib:Careless",
        "mylib:Planted",
    }


@needs_bash
def test_a_doubt_is_for_the_report_to_judge_as_a_violation_is(tmp_path: Path) -> None:
    runner, searched = search(tmp_path / "search", f"{SHY}\ndel Deaf\n")
    assert searched.returncode == 0, searched.stdout + searched.stderr
    runner, done = report(tmp_path / "report", {"mylib/1": runner.folder / "found" / "mylib" / "1"})
    assert done.returncode == 1, done.stdout + done.stderr
    assert "**0 violated**, **1 doubtful**" in runner.summary.read_text()


@needs_bash
def test_a_report_joins_shards_and_keeps_what_is_known_of_a_library_that_was_lost(
    found: Path, cache: Path, tmp_path: Path
) -> None:
    another, known = tmp_path / "another", tmp_path / "cache"
    shutil.copytree(found, another)
    (another / "examples" / "ab").mkdir()
    (another / "examples" / "ab" / "cd").write_bytes(b"found there alone")
    shutil.copytree(cache, known)
    shutil.copytree(cache / "mylib", known / "lost")
    runner, done = report(tmp_path / "report", {"mylib/1": found, "mylib/2": another}, known)
    assert done.returncode == 0, done.stdout + done.stderr
    (one,), (both,) = (
        [
            row
            for row in json.loads(path.read_text())["subjects"]
            if row["target"] == "mylib:Careless"
        ]
        for path in (found / "results.json", runner.folder / "results.json")
    )
    assert both["trials"] == 2 * one["trials"]
    assert (
        files(runner.folder / "kept" / "mylib" / "examples")
        == files(another / "examples")
        > files(found / "examples")
    )
    assert files(runner.folder / "examples") == files(another / "examples")
    assert files(runner.folder / "kept" / "lost") == files(cache / "mylib")


@needs_bash
@pytest.mark.parametrize(
    ("optimizers", "arguments", "says"),
    [
        ("", FEW, "unknown module 'mylib'"),
        (OPTIMIZERS, "--max-examples none", "not a valid integer"),
        (NEEDY, FEW, "needs teacher"),
    ],
    ids=["no-library", "usage", "not-judged"],
)
def test_a_search_that_judged_nothing_fails(
    optimizers: str, arguments: str, says: str, tmp_path: Path
) -> None:
    _, done = search(tmp_path / "search", optimizers, arguments)
    assert done.returncode == 1
    assert says in done.stdout + done.stderr


@needs_bash
def test_a_night_without_any_results_fails(tmp_path: Path) -> None:
    done = Runner.started(tmp_path / "report").run(step(NIGHTLY, "Report", "report"))
    assert done.returncode == 2
    assert "name a results file" in done.stderr


@needs_bash
def test_the_action_checks_each_target_and_remembers_what_failed(tmp_path: Path) -> None:
    inputs = {
        "inputs.targets": "mylib:Steady\nmylib:Careless\n",
        "inputs.profile": "dev",
        "inputs.arguments": FEW,
    }
    runner = Runner.started(tmp_path / "checkout", OPTIMIZERS, inputs)
    done = runner.run(step(ACTION, "Check"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "profile dev, 20 examples" in done.stdout
    rows = json.loads((runner.folder / "frostproof.json").read_text())["subjects"]
    assert {row["target"]: row["status"] for row in rows} == {
        "mylib:Steady": "held",
        "mylib:Careless": "violated",
    }
    assert runner.summary.read_text().startswith("## frostproof")
    written = [
        pattern
        for each in steps(ACTION.read_text())
        for pattern in each.get("with", {}).get("path", "").split()
    ]
    assert len(written) == 5
    assert all((runner.folder / each).exists() for each in written)
    assert files(runner.folder / ".hypothesis" / "examples")


@needs_bash
@pytest.mark.parametrize(
    "hostile",
    [
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned #",
        '"; touch pwned; "',
        "'; touch pwned; '",
    ],
)
def test_the_action_executes_nothing_that_its_inputs_say(hostile: str, tmp_path: Path) -> None:
    inputs = {f"inputs.{name}": hostile for name in ("targets", "profile", "arguments")}
    runner = Runner.started(tmp_path / "checkout", OPTIMIZERS, inputs)
    assert runner.run(step(ACTION, "Check")).returncode == 2
    assert not (runner.folder / "pwned").exists()


@needs_bash
@pytest.mark.parametrize("present", [True, False])
def test_the_action_installs_frostproof_where_it_is_not_there(
    present: bool, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("python", *["frostproof"] * present):
        (programs / name).write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/called"\n')
        (programs / name).chmod(0o755)
    done = Runner.started(tmp_path / "checkout").run(step(ACTION, "Install"), path=str(programs))
    assert done.returncode == 0, done.stderr
    called = (tmp_path / "called").read_text().split() if (tmp_path / "called").exists() else []
    assert called[:-1] == ([] if present else ["-m", "pip", "install"])
    assert present or Path(called[-1]).resolve() == ROOT


@needs_bash
def test_the_workflow_to_copy_checks_a_library(tmp_path: Path) -> None:
    (script,) = (each for each in steps(DOCUMENTED[1]) if "frostproof check" in each.get("run", ""))
    runner = Runner.started(tmp_path / "checkout")
    (runner.folder / "mylib").mkdir()
    (runner.folder / "mylib" / "optim.py").write_text(STEADY)
    done = runner.run(
        {**script, "run": script["run"].replace("--profile ci", f"--profile ci {FEW}")}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "profile ci, 20 examples" in done.stdout
