"""Judgements per second of one trial for all invariants, over one property for each invariant.

Usage: python benchmarks/judgements.py [EXAMPLES]

Both sides draw from the same strategy, run the same trials and count the same judgements, in turn,
in this process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from hypothesis import Phase, given, settings

from frostproof.approaches.approach import Approaches
from frostproof.optimizers.targets import resolve
from frostproof.spec.case import Case
from frostproof.trial.lockstep import run_trial
from frostproof.verification.verification import Verification


def rate(
    verification: Verification, examples: int, judge: Callable[[Case], int]
) -> tuple[int, float]:
    """Return the number of judgements of one property, and its seconds."""
    count = 0

    @settings(max_examples=examples, deadline=None, database=None, phases=(Phase.generate,))
    @given(verification.cases)
    def holds(case: Case) -> None:
        nonlocal count
        count += judge(case)

    started = time.perf_counter()
    holds()
    return count, time.perf_counter() - started


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    torch.set_num_threads(1)
    verification = Verification(resolve(["torch.optim:Adam"])[0], "cpu")
    verification.prepare()

    def all_at_once(case: Case) -> int:
        before = sum(tally.judged for tally in verification.tallies.values())
        verification.judge(case)
        return sum(tally.judged for tally in verification.tallies.values()) - before

    together, seconds = rate(verification, examples, all_at_once)
    one_by_one, total = 0, 0.0
    for invariant in verification.invariants:
        only = (invariant,)

        def judge(case: Case, only: tuple[object, ...] = only) -> int:
            return len(run_trial(case, verification.subject, "cpu", only, Approaches()).judged)  # type: ignore[arg-type]

        count, spent = rate(verification, examples, judge)
        one_by_one, total = one_by_one + count, total + spent
    print(f"one trial, every invariant: {together / seconds:8.0f} judgements/s")
    print(f"one property each:          {one_by_one / total:8.0f} judgements/s")
    print(f"ratio: {together / seconds / (one_by_one / total):.1f}")


if __name__ == "__main__":
    main()
