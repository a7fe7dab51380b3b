"""The whole atlas: every optimizer is explored in a process of its own."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from frostproof.applications.atlas.classes import classes_by_target
from frostproof.applications.atlas.comparison import EQUIVALENT
from frostproof.applications.atlas.explore import explore_optimizer
from frostproof.applications.atlas.record import Atlas, AtlasCell, LostOptimizer, WayRecord
from frostproof.applications.atlas.traits import observe_traits
from frostproof.approaches.others import WAYS
from frostproof.counterexamples.execution import reproduces
from frostproof.errors import LostError, UsageError
from frostproof.optimizers.targets import resolve, torch_optimizers
from frostproof.process.isolated_tasks import run_isolated
from frostproof.process.quiet import quiet
from frostproof.report.files import make_folder, write_file
from frostproof.results.rows import environment
from frostproof.spec.subject import Subject

OPTIMIZER_TIMEOUT_S = 600.0
"""Seconds that one optimizer may take."""


def build_atlas(
    targets: Sequence[str],
    *,
    examples: int,
    seed: int,
    jobs: int | None,
    report: Callable[[str], None],
    families: Sequence[str] = (),
) -> Atlas:
    """The atlas of the first implementation of each target, or of all torch.optim without targets.

    Each optimizer is tried on `examples` random cases of each of `families`, or of every network
    family. `report` is called with one line for each optimizer: its classes of ways, or why it was
    lost. Raises UsageError if a target is not an optimizer, or if every optimizer was lost.
    """
    started = time.perf_counter()
    subjects: dict[str, Subject] = {}
    for subject in resolve(targets) if targets else torch_optimizers():
        subjects.setdefault(subject.target, subject)
    cells: list[AtlasCell] = []
    lost: list[LostOptimizer] = []
    tasks = [(target, examples, seed, families) for target in subjects]
    jobs = jobs or os.cpu_count() or 1
    preload = "frostproof.applications.atlas.preloaded"
    # Scripts run as children of this process, whose fork server imports torch once for all of them.
    answers = run_isolated(_explore, tasks, jobs, OPTIMIZER_TIMEOUT_S, preload, rerun_scripts)
    for subject, answer in zip(subjects.values(), answers, strict=True):
        if isinstance(answer, LostError):
            lost.append(LostOptimizer(subject.target, subject.variant, str(answer)))
            report(f"{subject.target}: {answer}")
            continue
        cells += answer
        if not answer:
            report(f"{subject.target}: no two ways could be compared")
        for target, groups in classes_by_target([way.name for way in WAYS], answer):
            report(f"{target}: {groups}")
    if not cells and lost:
        raise UsageError(f"nothing could be compared: {lost[0].target}: {lost[0].reason}")
    seconds = time.perf_counter() - started
    return Atlas(environment(["cpu"], "atlas", seed), way_records(), cells, lost, seconds)


def way_records() -> list[WayRecord]:
    """Every way with its description, which is its class's docstring, and its observed traits."""
    with quiet():
        return [
            WayRecord(way.name, " ".join((type(way).__doc__ or "").split()), observe_traits(way))
            for way in WAYS
        ]


def _explore(target: str, examples: int, seed: int, families: Sequence[str]) -> list[AtlasCell]:
    with quiet():  # modules that torch imports late may warn
        return explore_optimizer(resolve((target,))[0], "cpu", examples, seed, families)


def rerun_scripts(cells: list[AtlasCell]) -> list[AtlasCell]:
    """Run the cells' scripts, each in a process of its own.

    A cell is marked as doubtful if its script does not show the difference.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [_rerun_script(cell, Path(folder) / "difference.py") for cell in cells]


def _rerun_script(cell: AtlasCell, path: Path) -> AtlasCell:
    if cell.script is None:
        return cell
    path.write_text(cell.script, encoding="utf-8")
    module = cell.target.partition(":")[0]
    reproduced, said = reproduces(path, EQUIVALENT.id, Path.cwd(), sys.path, module=module)
    return cell if reproduced else cell.replaced(verdict="doubtful", doubt=said)


def write_scripts(atlas: Atlas, folder: Path) -> Atlas:
    """Write the scripts of all cells to `folder`, and return the atlas with the names of the files.

    Raises UsageError.
    """
    make_folder(folder)
    cells = []
    for cell in atlas.cells:
        if cell.script is not None:
            name = f"{cell.target.replace(':', '_')}-{cell.family}-{cell.left}-{cell.right}.py"
            write_file(folder / name, cell.script.encode())
            cells.append(cell.replaced(reproducer=str(folder / name)))
        else:
            cells.append(cell)
    return msgspec.structs.replace(atlas, cells=cells)
