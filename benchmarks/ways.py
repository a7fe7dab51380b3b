"""In how many seeds a search tells each wrong helper, and flags each correct one.

Usage: python -m benchmarks.ways [SEEDS] [NAME...]

The helpers are those of tests/helpers/ways.py. A search draws 100 cases, as the profile dev does,
and ends at the first violation.
"""

from __future__ import annotations

import sys

import torch

from frostproof.approaches.approach import Approaches
from frostproof.approaches.helper import load_way
from frostproof.optimizers.discovery import subjects
from frostproof.verification.verification import Verification
from tests.helpers import ways
from tests.helpers.broken import Sound
from tests.helpers.search import search

EXPECTED = {
    "freeze_modules": "frozen-weights-unchanged",
    "ThawsAll": "frozen-weights-unchanged",
    "freeze_and_leave": "freeze-midway-holds",
    "AddsTwice": "thaw-resumes",
    "AddsWithOtherSettings": "trainable-updates-match",
    "LosesDecay": "trainable-updates-match",
    "freeze_without_biases_of_norms": "frozen-weights-unchanged",
    "FlipsAfterFilter": "trainable-updates-match",
    "freeze_whole_modules": "trainable-updates-match",
    "HooksForEver": "frozen-weights-unchanged",
}
"""Wrong helper -> the invariant that it violates most often."""


def told(name: str, seed: int) -> bool:
    """Whether a search finds a violation."""
    (subject,) = subjects(Sound)
    way = load_way(f"{ways.__name__}:{name}")
    verification = Verification(subject, "cpu", approaches=Approaches(way=way))
    search(verification, seed, *([EXPECTED[name]] if name in EXPECTED else []))
    return any(tally.violated for tally in verification.tallies.values())


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    torch.set_num_threads(1)
    for name in sys.argv[2:] or (*ways.CORRECT, *ways.WRONG):
        kind = "flagged" if name in ways.CORRECT else "told"
        count = sum(told(name, seed) for seed in range(seeds))
        print(f"{name:32} {kind} in {count} of {seeds} seeds", flush=True)


if __name__ == "__main__":
    main()
