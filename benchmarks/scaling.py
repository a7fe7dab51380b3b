"""How much faster two workers are than one, once started. Usage: python benchmarks/scaling.py [EXAMPLES]

The time that workers take to start is measured by a run of one example, and taken off.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time


def seconds(jobs: int, examples: int) -> float:
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(jobs), "--pyargs", "frostproof_properties.test_optimizers"]
    command += ["-k", "test_optimizer and not differentiable", "--frostproof-device", "cpu", "--frostproof-max-examples", str(examples)]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        return time.perf_counter() - started


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    one = seconds(1, examples) - seconds(1, 1)
    two = seconds(2, examples) - seconds(2, 1)
    print(f"-n 1: {one:.1f} s, -n 2: {two:.1f} s, both less their start: {one / two:.2f} times as fast")


if __name__ == "__main__":
    main()
