"""Time from the start of a worker process to its first trial, over `import torch` plus building one optimizer.

Usage: python benchmarks/startup.py [RUNS]. Linux only: a process's start is read from /proc. The two sides take turns.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = "import torch; torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)"
FILE = "FROSTPROOF_BENCHMARK_FIRST_TRIAL"


def age() -> float:
    """Seconds since this process started."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def pytest_collection_finish() -> None:
    """As a pytest plugin, in the worker: the first trial notes the age of the process, and ends it."""
    if FILE not in os.environ:
        return
    from frostproof.verification.verification import Verification

    def first(*_: object) -> None:
        Path(os.environ[FILE]).write_text(str(age()))
        os._exit(0)

    Verification.judge = first  # type: ignore[method-assign, assignment]


def bare() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", BARE], check=True)
    return time.perf_counter() - started


def worker() -> float:
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "age"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "startup",
            "-n",
            "1",
            "--max-worker-restart",
            "0",
        ]
        command += [
            "--pyargs",
            "frostproof_properties.test_optimizers",
            "--frostproof-device",
            "cpu",
        ]
        environment = {**os.environ, FILE: str(note), "PYTHONPATH": str(Path(__file__).parent)}
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
        return float(note.read_text())


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    bare(), worker()
    pairs = [(worker(), bare()) for _ in range(runs)]
    print(
        f"worker's first trial: median {statistics.median(a for a, _ in pairs):.2f} s after its start"
    )
    print(
        f"import torch and build one optimizer: median {statistics.median(b for _, b in pairs):.2f} s"
    )
    print(f"ratio: median {statistics.median(a / b for a, b in pairs):.2f}")


if __name__ == "__main__":
    main()
