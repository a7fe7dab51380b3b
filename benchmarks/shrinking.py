"""How small counterexamples get, and how long that takes, over the planted bugs. Usage: python benchmarks/shrinking.py [SEEDS]

From the folder of the project. Each search runs as the dev profile does, in this process, on one torch thread.
"""

from __future__ import annotations

import sys
from statistics import median

from frostproof.spec.case import Case
from frostproof.verification.verification import Verification
from tests.helpers.planted import Planted
from tests.helpers.planted_programs import PROGRAM_BUGS
from tests.helpers.search import shrunk


def smallest(bug: Planted, seed: int) -> tuple[Case | None, float]:
    """The counterexample to the invariant that the bug breaks, where the search found one, and the seconds that it took."""
    verification = Verification(
        bug.subject, "cpu", only_invariant=bug.invariant, approaches=bug.approaches
    )
    seconds = shrunk(verification, seed)
    return verification.tallies[bug.invariant].case, seconds


def main() -> None:
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    layers, events, times = [], [], []
    for bug in PROGRAM_BUGS:
        for seed in seeds:
            case, seconds = smallest(bug, seed)
            if case is None:
                print(f"{bug.name:32} seed {seed}: not found in {seconds:.1f} s", flush=True)
                continue
            layers.append(len(case.architecture.places) - bug.smallest[0])
            events.append(len(case.program) - bug.smallest[1])
            times.append(seconds)
            size = f"{len(case.architecture.places)} layers, {len(case.program)} events"
            print(
                f"{bug.name:32} seed {seed}: {size} in {seconds:.1f} s; the smallest has {bug.smallest}",
                flush=True,
            )
    print(
        f"median of {len(times)}: {median(layers)} layers and {median(events)} events more than the smallest, {median(times):.1f} s; "
        f"largest: {max(layers)} and {max(events)}, {max(times):.1f} s"
    )


if __name__ == "__main__":
    main()
