"""What `check --way` says of the ways to freeze of libraries, as the table of docs/ways.md.

Usage: PYTHONPATH=. python benchmarks/library_ways.py [EXAMPLES]

The ways are those of tests/helpers/library_ways.py, on a small residual network with batch norms.
It needs `pip install 'frostproof[ways]'`.
"""

from __future__ import annotations

import sys
import warnings

import torch

from frostproof.approaches.approach import Approaches
from frostproof.approaches.helper import load_way
from frostproof.optimizers.discovery import subjects
from frostproof.process.fence import fenced
from frostproof.training.trying import model_under_test
from frostproof.verification.search import search_violations
from frostproof.verification.verification import Verification
from tests.helpers import library_ways
from tests.helpers.broken import Sound


def verified(name: str, examples: int) -> Verification:
    model = model_under_test("tests.helpers.models:ResNet", ["layer1"], "2,3,6,6")
    way = load_way(f"{library_ways.__name__}:{name}")
    (subject,) = subjects(Sound)
    found = Verification(subject, "cpu", model=model, approaches=Approaches(way=way))
    with fenced("cpu"):
        found.prepare()
        search_violations(found, examples, 0)
    return found


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| way | what is found | smallest example |\n| --- | --- | --- |")
    for name in library_ways.WAYS:
        described = " ".join((getattr(library_ways, name).__doc__ or "").split())
        rows = [
            f"| {described} | {identity} in {tally.violated} of {tally.judged} trials | "
            f"{tally.message} |"
            for identity, tally in verified(name, examples).tallies.items()
            if tally.violated
        ]
        print("\n".join(rows or [f"| {described} | nothing | |"]), flush=True)


if __name__ == "__main__":
    main()
