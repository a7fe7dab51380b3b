"""How small counterexamples of the planted bugs get, and how long that takes.

Usage, in the folder of the project: python -m benchmarks.shrinking [SEEDS]

Each search runs as the dev profile does, in this process, on one torch thread.
"""

from __future__ import annotations

import sys
from statistics import median

from frostproof.spec.case import Case
from frostproof.verification.verification import Verification
from tests.helpers.planted import Planted
from tests.helpers.planted_programs import PROGRAM_BUGS
from tests.helpers.planted_rare import RARE_BUGS
from tests.helpers.search import shrunk


def smallest(bug: Planted, seed: int) -> tuple[Case | None, float]:
    """Return the counterexample to the invariant that the bug breaks, if found, and the seconds."""
    verification = Verification(
        bug.subject, "cpu", only_invariant=bug.invariant, approaches=bug.approaches
    )
    seconds = shrunk(verification, seed)
    return verification.tallies[bug.invariant].case, seconds


def main() -> None:
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    layers, events, times = [], [], []
    for bug in (*PROGRAM_BUGS, *RARE_BUGS):
        for seed in seeds:
            case, seconds = smallest(bug, seed)
            if case is None:
                print(f"{bug.name:32} seed {seed}: not found in {seconds:.1f} s", flush=True)
                continue
            layers.append(len(case.architecture.places) - bug.smallest[0])
            events.append(len(case.program) - bug.smallest[1])
            times.append(seconds)
            size = f"{len(case.architecture.places)} layers, {len(case.program)} events"
            print(f"{bug.name:32} seed {seed}: {size} in {seconds:.1f} s; ", end="")
            print(f"the smallest has {bug.smallest}", flush=True)
    print(f"more than the smallest, of {len(times)}:")
    for name, of in (("median", median), ("largest", max)):
        print(f"{name}: {of(layers)} layers, {of(events)} events, {of(times):.1f} s")


if __name__ == "__main__":
    main()
