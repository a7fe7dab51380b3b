"""The cost of the property run, over the bare torch loop on the very same cases.

Usage: python benchmarks/overhead.py [EXAMPLES] [NAME]

NAME restricts it to optimizers whose name contains it. Both sides run in this process, in turn, on
one torch thread. Quote the ratio: the seconds depend on the machine.
"""

from __future__ import annotations

import sys
import time
import warnings

import torch
from hypothesis import Phase, given, settings

from bare import bare_trial
from frostproof.errors import UnusableError
from frostproof.optimizers.targets import torch_optimizers
from frostproof.spec.case import Case
from frostproof.verification.verification import Verification


def measure(verification: Verification, examples: int) -> tuple[float, float]:
    """Return the seconds of the property run, and of the bare loop on its cases.

    They take turns in which one goes first.
    """
    bare, count = 0.0, 0

    @settings(max_examples=examples, deadline=None, database=None, phases=(Phase.generate,))
    @given(verification.cases)
    def holds(case: Case) -> None:
        nonlocal bare, count
        count += 1
        if count % 2:
            verification.judge(case)
        started = time.perf_counter()
        bare_trial(case, verification.subject)
        bare += time.perf_counter() - started
        if not count % 2:
            verification.judge(case)

    started = time.perf_counter()
    holds()
    return time.perf_counter() - started - bare, bare


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    only = sys.argv[2] if len(sys.argv) > 2 else ""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    ours, bare = 0.0, 0.0
    for subject in torch_optimizers():
        if only not in subject.name:
            continue
        verification = Verification(subject, "cpu")
        try:
            verification.prepare()
        except UnusableError:
            continue
        a, b = measure(verification, examples)
        ours, bare = ours + a, bare + b
        print(f"{subject.name:40} {a:6.2f} s / {b:6.2f} s = {a / b:.2f}", flush=True)
    print(f"{'overall':40} {ours:6.2f} s / {bare:6.2f} s = {ours / bare:.2f}")


if __name__ == "__main__":
    main()
