"""How often searches miss the bugs that only a setting shows, and whether they flag correct code.

Usage, in the folder of the project: python -m benchmarks.planted_settings SETTING [SEEDS]

Each search has the examples of the dev profile, and ends once it has named the bug by the invariant
that tells most of it. An author sees each flag, and its script.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.targets import resolve_setting
from frostproof.process.fork_server import forking
from frostproof.verification.profiles import PROFILES
from frostproof.verification.verification import Verification
from tests.helpers.planted_settings import BUGS, CORRECT
from tests.helpers.search import flagged, search


def main(name: str, seeds: int) -> None:
    setting = resolve_setting(name)
    cases = [*BUGS[name].items(), *((optimizer, None) for optimizer in CORRECT[name])]
    for optimizer, identity in cases:
        subject = replace(subjects(optimizer)[0], setting=setting)
        started, found, named = time.perf_counter(), 0, 0
        for seed in range(seeds):
            verification = Verification(subject, "cpu", strict=True)
            count = verification.budget(PROFILES["dev"])
            search(verification, seed, *([identity] if identity else []), examples=count)
            found += bool(flagged(verification))
            named += identity in flagged(verification)
        what = f", named as {identity} with {named}" if identity else ""
        seconds = time.perf_counter() - started
        print(
            f"{optimizer.__name__:32} flagged with {found} of {seeds} seeds{what}, {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    with forking(("torch", "frostproof.trial.ranks")):
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20)
