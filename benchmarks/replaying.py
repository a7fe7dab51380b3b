"""Time to replay 100 saved cases, after the start, over the time to run each of them once.

Usage: python benchmarks/replaying.py [CASES]

The cases are drawn for two optimizers, one that moves frozen weights and one that does not. One
process of `frostproof replay` replays all of them. A replay of one file measures the start.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings

from frostproof.generation.cases import cases
from frostproof.optimizers.probe import probe
from frostproof.optimizers.targets import resolve
from frostproof.process.fence import fenced
from frostproof.spec.casefile import CaseFile, save
from frostproof.spec.subject import Subject

TARGETS = ("tests.helpers.planted:DecaysEverything", "tests.helpers.planted:Sound")


def drawn(folder: Path, count: int) -> list[Path]:
    """Save random cases for each of the targets, and return their files."""
    paths: list[Path] = []
    subjects = [probe(subject, "cpu") for subject in resolve(TARGETS)]
    for subject in subjects:
        _keep(subject, folder, count // len(subjects), paths)
    return paths


def _keep(subject: Subject, folder: Path, count: int, paths: list[Path]) -> None:
    @settings(max_examples=count, database=None, phases=(Phase.generate,), deadline=None)
    @given(case=cases(subject))
    def keep(case: Any) -> None:
        found = CaseFile(
            target=subject.target,
            variant=subject.variant,
            device="cpu",
            invariant="frozen-weights-unchanged",
            message=None,
            case=case,
        )
        paths.append(save(folder / str(len(paths)), found)[0])

    keep()


def seconds(paths: list[Path]) -> tuple[float, float]:
    """Return the wall time of this replay, and the processor time of all replays so far."""
    command = [str(Path(sys.executable).parent / "frostproof"), "replay", *map(str, paths)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = time.perf_counter() - started
    processor = resource.getrusage(resource.RUSAGE_CHILDREN)
    verdicts = [
        line for line in done.stdout.splitlines() if line.startswith(("FIXED", "STILL", "NOT"))
    ]
    assert len(verdicts) == len(paths), done.stderr
    return found, processor.ru_utime + processor.ru_stime


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as name, fenced("cpu"):
        paths = drawn(Path(name), count)
        start, used = seconds(paths[:1])
        whole, used_by_both = seconds(paths)
    each = 1000 * (whole - start) / len(paths)
    print(f"{len(paths)} cases: {whole:.1f} s, {start:.1f} s of it the start; {each:.0f} ms a case")
    print(f"processor time: {used_by_both - used:.1f} s, {used:.1f} s of it the start")


if __name__ == "__main__":
    main()
