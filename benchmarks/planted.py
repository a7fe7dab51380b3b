"""How often searches miss planted bugs, and whether they flag correct optimizers.

Usage, in the folder of the project: python -m benchmarks.planted [SEEDS] [PROFILE]

Each search runs as the profile does, in this process, until it has found the planted bug.
"""

from __future__ import annotations

import sys
import time

from frostproof.optimizers.discovery import subjects
from frostproof.verification.verification import Verification
from tests.helpers.planted import BUGS
from tests.helpers.planted_programs import PROGRAM_BUGS
from tests.helpers.planted_rare import RARE_BUGS
from tests.helpers.search import finds, flagged, search
from tests.helpers.suspicious import CORRECT


def main(seeds: int, profile: str) -> None:
    worst = 0
    for bug in (*BUGS, *PROGRAM_BUGS, *RARE_BUGS):
        started = time.perf_counter()
        searches = enumerate(finds(bug, range(seeds), profile))
        missed = [seed for seed, each in searches if not each.tallies[bug.invariant].violated]
        worst = max(worst, len(missed))
        seconds = time.perf_counter() - started
        print(f"{bug.invariant:26} {bug.name:32} {seconds:6.1f} s  missed {missed}", flush=True)
    least = f"at least {seeds - worst} of {seeds} seeds"
    count = len((*BUGS, *PROGRAM_BUGS, *RARE_BUGS))
    print(f"{count} planted bugs: each found with {least}, profile {profile}")
    alarms = 0
    for optimizer in CORRECT:
        (subject,) = subjects(optimizer)
        for seed in range(seeds):
            verification = Verification(subject, "cpu", strict=True)
            search(verification, seed, profile=profile)
            if flagged(verification):
                alarms += 1
                print(f"{optimizer.__name__}, seed {seed}: {flagged(verification)}", flush=True)
    print(f"{len(CORRECT)} correct optimizers with {seeds} seeds each: {alarms} false alarms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, sys.argv[2] if len(sys.argv) > 2 else "dev")
