"""Time from the start of a worker to its first trial, over `import torch` and one optimizer.

Usage: python benchmarks/startup.py [RUNS]

It needs Linux: the start of a process is read from /proc. The two sides take turns.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

BARE = "import torch; torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)"
FILE = "FROSTPROOF_BENCHMARK_FIRST_TRIAL"


def age() -> float:
    """Return the seconds since this process started."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def pytest_collection_finish() -> None:
    """In the worker, where this is a pytest plugin: end the process at its first trial.

    The file has the age of the process then.
    """
    if FILE not in os.environ:
        return
    from frostproof.verification.verification import Verification

    def first(*_: object) -> None:
        Path(os.environ[FILE]).write_text(str(age()))
        os._exit(0)

    Verification.find_violations = first  # type: ignore[method-assign, assignment]


def bare() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", BARE], check=True)
    return time.perf_counter() - started


def worker() -> float:
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "age"
        words = "-m pytest -p startup -n 1 --max-worker-restart 0 --frostproof-device cpu"
        words += " --pyargs frostproof_properties.test_optimizers"
        command = [sys.executable, *words.split()]
        paths = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
        environment = {**os.environ, FILE: str(note), "PYTHONPATH": paths}
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
        return float(note.read_text())


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    bare(), worker()
    pairs = [(worker(), bare()) for _ in range(runs)]
    first, build, ratio = map(median, zip(*((a, b, a / b) for a, b in pairs), strict=True))
    print(f"first trial of a worker: median {first:.2f} s after its start")
    print(f"import torch and build one optimizer: median {build:.2f} s")
    print(f"ratio: median {ratio:.2f}")


if __name__ == "__main__":
    main()
