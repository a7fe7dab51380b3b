"""How much faster two workers are than one, on every optimizer and on one in four shards.

Usage: python benchmarks/scaling.py [EXAMPLES]

The start of the workers is measured by a run of one example (one for each shard), and subtracted.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

ALL = ("-k", "test_optimizer and not differentiable")
ONE = (
    "-k",
    "test_optimizer and torch.optim:SGD-forloop",
    "--frostproof-optimizer",
    "torch.optim:SGD",
)


def seconds(jobs: int, examples: int, *arguments: str) -> float:
    words = (
        f"-m pytest -q -n {jobs} --maxschedchunk=1 --pyargs frostproof_properties.test_optimizers"
    )
    words += f" --frostproof-device cpu --frostproof-seed 1 --frostproof-max-examples {examples}"
    command = [sys.executable, *words.split(), *arguments]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        return time.perf_counter() - started


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    one = seconds(1, examples, *ALL) - seconds(1, 1, *ALL)
    two = seconds(2, examples, *ALL) - seconds(2, 1, *ALL)
    both = f"-n 1 {one:.1f} s, -n 2 {two:.1f} s, both less their start"
    print(f"every optimizer: {both}: {one / two:.2f} times as fast", flush=True)
    many, four = 60 * examples, (*ONE, "--frostproof-shards", "4")
    one = seconds(1, many, *ONE) - seconds(1, 1, *ONE)
    two = seconds(2, many, *four) - seconds(2, 4, *four)
    both = f"-n 1 {one:.1f} s, -n 2 in 4 shards {two:.1f} s"
    print(f"one optimizer, {many} examples: {both}: {one / two:.2f} times as fast")


if __name__ == "__main__":
    main()
