"""The whole atlas: every optimizer's part, each in a process of its own, put together."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from frostproof.applications.atlas.comparison import EQUIVALENT
from frostproof.applications.atlas.explore import explored
from frostproof.applications.atlas.record import Atlas, Cell, Lost, Way
from frostproof.applications.atlas.traits import traits
from frostproof.approaches.others import WAYS
from frostproof.counterexamples.execution import reproduces
from frostproof.errors import LostError, UsageError
from frostproof.optimizers.targets import resolve, torch_optimizers
from frostproof.process.isolated_tasks import run_isolated
from frostproof.process.quiet import quiet
from frostproof.results import rows as results
from frostproof.spec.subject import Subject

LIMIT = 600.0
"""Seconds that one optimizer may take."""


def drawn(
    targets: Sequence[str],
    *,
    examples: int,
    seed: int,
    jobs: int | None,
    told: Callable[[str], None],
    families: Sequence[str] = (),
) -> Atlas:
    """The atlas of these optimizers, all of torch.optim where none is named; of each its first implementation.

    `examples`: random cases for each optimizer and family; `families`: all where none is named; `told` is called with a line for
    each optimizer that is done. Raises UsageError for a target that is no optimizer.
    """
    started = time.perf_counter()
    first: dict[str, Subject] = {}
    for subject in resolve(targets) if targets else torch_optimizers():
        first.setdefault(subject.target, subject)
    subjects = list(first.values())
    cells: list[Cell] = []
    lost: list[Lost] = []
    tasks = [(subject.target, examples, seed, families) for subject in subjects]
    # Scripts are run from here, as one process that runs many has imported torch for all of them.
    answers = run_isolated(
        _explored,
        tasks,
        jobs or os.cpu_count() or 1,
        LIMIT,
        "frostproof.applications.atlas.preloaded",
        rerun,
    )
    for subject, answer in zip(subjects, answers, strict=True):
        if isinstance(answer, LostError):
            lost.append(Lost(subject.target, subject.variant, str(answer)))
            told(f"{subject.target}: {answer}")
            continue
        cells += answer
        different = sum(cell.verdict == "different" for cell in answer)
        told(f"{subject.target}: {len(answer)} cells, {different} different")
    if not cells and lost:
        raise UsageError(f"nothing could be compared: {lost[0].target}: {lost[0].reason}")
    with quiet():
        ways = [
            Way(way.name, " ".join((type(way).__doc__ or "").split()), traits(way)) for way in WAYS
        ]
    return Atlas(
        results.environment(["cpu"], "atlas", seed),
        ways,
        cells,
        lost,
        time.perf_counter() - started,
    )


def _explored(target: str, examples: int, seed: int, families: Sequence[str]) -> list[Cell]:
    with quiet():  # what torch imports on the way may warn
        return explored(resolve((target,))[0], "cpu", examples, seed, families)


def rerun(cells: list[Cell]) -> list[Cell]:
    """These cells, of which those that no script shows, run in a process of its own, are doubtful."""
    with tempfile.TemporaryDirectory() as folder:
        return [_rerun(cell, Path(folder) / "difference.py") for cell in cells]


def _rerun(cell: Cell, path: Path) -> Cell:
    if cell.script is None:
        return cell
    path.write_text(cell.script, encoding="utf-8")
    reproduced, said = reproduces(
        path, EQUIVALENT.id, Path.cwd(), sys.path, module=cell.target.partition(":")[0]
    )
    return cell if reproduced else cell.replaced(verdict="doubtful", doubt=said)


def written(atlas: Atlas, folder: Path) -> Atlas:
    """The atlas with its scripts as files in `folder`. Raises UsageError."""
    cells = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for cell in atlas.cells:
            if cell.script is not None:
                name = f"{cell.target.replace(':', '_')}-{cell.family}-{cell.left}-{cell.right}.py"
                (folder / name).write_text(cell.script, encoding="utf-8")
                cell = cell.replaced(reproducer=str(folder / name))
            cells.append(cell)
    except OSError as error:
        raise UsageError(
            f"cannot write to {str(folder)!r} ({error.strerror}): name another folder with --cases"
        ) from None
    return Atlas(atlas.environment, atlas.ways, cells, atlas.lost, atlas.seconds)
