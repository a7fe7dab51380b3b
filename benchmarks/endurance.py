"""Memory and speed of one process over very many trials of one optimizer.

Usage: python benchmarks/endurance.py [EXAMPLES]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

STARTED = 1000
"""Trials before the first measurement of speed."""

WARM = 10_000
"""Trials before the first measurement of memory. All of them are printed."""


class Watch:
    """Notes, every second, the number of trials and the memory of the process."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int, float]] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Generator[None, Any, Any]:
        ended = threading.Event()

        def note() -> None:
            while not ended.wait(1):
                self.seen.append(
                    (time.perf_counter(), item.callspec.params["verification"].trials, memory())
                )

        threading.Thread(target=note, daemon=True).start()
        try:
            return (yield)
        finally:
            ended.set()

    def rate(self, around: int, span: int) -> float:
        """Return the trials per second from trial `around - span` to trial `around`."""
        near = self.near(around, span)
        return (near[-1][1] - near[0][1]) / (near[-1][0] - near[0][0])

    def held(self, around: int, span: int) -> float:
        """Return the mean memory between the same trials, in MiB."""
        return statistics.fmean(held for _, _, held in self.near(around, span))

    def near(self, around: int, span: int) -> list[tuple[float, int, float]]:
        return [each for each in self.seen if around - span <= each[1] <= around]


def memory() -> float:
    """Return the resident memory of this process, in MiB (Linux)."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        words = f"-q -p no:xdist --rootdir {folder} --pyargs frostproof_properties.test_optimizers"
        words += " --frostproof-optimizer torch.optim:SGD --frostproof-device cpu"
        words += f" --frostproof-seed 1 --frostproof-max-examples {examples}"
        pytest.main([*words.split(), "-k", "test_optimizer and SGD-forloop"], plugins=[watch])
    examples = min(examples, watch.seen[-1][1])  # a violation ends it sooner
    span = examples // 20
    early, last = watch.rate(STARTED + span, span), watch.rate(examples, span)
    print(f"trials/s: {early:.0f} at {STARTED} to {STARTED + span}, {last:.0f} at the end,", end="")
    print(f" {last / early - 1:+.1%}")
    for trials in range(span, examples + 1, span):
        print(f"memory: {watch.held(trials, span):.0f} MiB at {trials - span} to {trials}")
    if examples > WARM + span:
        growth = watch.held(examples, span) / watch.held(WARM + span, span) - 1
        most = max(held for _, _, held in watch.seen)
        print(f"memory: {growth:+.1%} after the first {WARM}; most {most:.0f} MiB")


if __name__ == "__main__":
    main()
