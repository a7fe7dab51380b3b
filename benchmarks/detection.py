"""How soon planted bugs are found: examples and seconds of the processor until the first violation.

Usage, in the folder of the project: python -m benchmarks.detection [SEEDS]

Each bug is searched for with each seed, once as frostproof draws, and once with plain random
numbers from the same menus. A search ends when the bug is found, or after MOST examples.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from frostproof.generation.cases import case_from
from frostproof.process.fence import fenced
from frostproof.verification.verification import Verification
from tests.helpers.planted import BUGS, Planted
from tests.helpers.planted_programs import PROGRAM_BUGS
from tests.helpers.planted_rare import RARE_BUGS
from tests.helpers.search import search

MOST = 100
"""Examples of one search."""

Drawing = Callable[[Verification, int, str], None]
"""Judges cases, drawn with a seed, until the invariant is violated."""


def as_frostproof(verification: Verification, seed: int, wanted: str) -> None:
    search(verification, seed, wanted, examples=MOST)


def plainly(verification: Verification, seed: int, wanted: str) -> None:
    numbers = random.Random(seed)
    with fenced("cpu"):
        verification.prepare()
        for _ in range(MOST):
            case = case_from(
                lambda place, n: numbers.randrange(n), _no_strategy, verification.subject
            )
            verification.find_violations(case, verification.known_failures)
            if verification.tallies[wanted].violated:
                return


def _no_strategy(space: Any) -> NoReturn:
    raise TypeError("a planted bug has menus of hyperparameters, and no strategy")


def until_found(bug: Planted, seed: int, drawing: Drawing) -> tuple[int, float]:
    """Examples and seconds of the processor until the bug is found, or until the end."""
    verification = Verification(bug.subject, "cpu", approaches=bug.approaches)
    with fenced("cpu"):
        verification.prepare()
    started = time.process_time()
    drawing(verification, seed, bug.invariant)
    return verification.trials, time.process_time() - started


def summary(values: Sequence[float]) -> str:
    *_, ninth = statistics.quantiles(values, n=10)
    return f"median {statistics.median(values):.3g}, 90 % {ninth:.3g}, worst {max(values):.3g}"


def lines(seeds: int) -> Iterator[str]:
    found: dict[str, list[tuple[int, float]]] = {"frostproof": [], "plain": []}
    for bug in (*BUGS, *PROGRAM_BUGS, *RARE_BUGS):
        here = []
        for name, drawing in {"frostproof": as_frostproof, "plain": plainly}.items():
            runs = [until_found(bug, seed, drawing) for seed in range(seeds)]
            found[name] += runs
            trials, seconds = (statistics.mean(each) for each in zip(*runs, strict=True))
            here.append(f"{name} {trials:.1f} ({seconds:.2f} s)")
        yield f"{bug.name:32} {bug.invariant:26} examples: {', '.join(here)}"
    for name, runs in found.items():
        yield f"{name}: examples: {summary([trials for trials, _ in runs])}"
        yield f"{name}: seconds: {summary([seconds for _, seconds in runs])}"


if __name__ == "__main__":
    for line in lines(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(line, flush=True)
