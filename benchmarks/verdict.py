"""Time from a command to its answer, over `import torch` and one step of the same optimizer.

Usage, in the folder of the project: python -m benchmarks.verdict [RUNS]

All sides take turns. A figure is the median of the runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.helpers.consumer import PLAIN, leaky

BARE = """import torch, mylib
p = torch.nn.Parameter(torch.ones(3))
p.grad = torch.ones(3)
mylib.Plain([p]).step()
"""
CASE = "frostproof-cases/mylib_Leaky-default-cpu-frozen-weights-unchanged.json"
COMMANDS = {
    "check of a correct optimizer": ("check", "mylib:Plain"),
    "check of a broken one": ("check", "mylib:Leaky"),
    "replay of one case": ("replay", CASE),
    "list": ("list", "invariants"),
    "--help": ("--help",),
}


def seconds(folder: Path, *words: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, check=False)
    return time.perf_counter() - started


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "mylib.py").write_text(PLAIN + leaky("Plain"))
        seconds(folder, "-m", "frostproof", *COMMANDS["check of a broken one"])  # makes the case
        assert (folder / CASE).exists()
        bare: list[float] = []
        found: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for _ in range(runs):
            bare.append(seconds(folder, "-c", BARE))
            for name, words in COMMANDS.items():
                found[name].append(seconds(folder, "-m", "frostproof", *words))
    print(f"{'import torch and one step':30} {median(bare):6.2f} s")
    for name, times in found.items():
        print(f"{name:30} {median(times):6.2f} s  {median(times) / median(bare):5.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
