"""How many counterexamples reproduce as scripts, each in its own process.

Usage, in the folder of the project: python benchmarks/reproducers.py [SEEDS] [TARGET...]

Without targets, the scripts are those of each planted bug and of each known failure of torch.optim.
They run where importing frostproof fails, with torch and the broken optimizers only. Each must exit
1 with the line that says why. Scripts of planted bugs run once more with a correct optimizer, and
must exit 0. With targets, the scripts are those of every violation found, and run in the
environment as it is.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from frostproof.approaches.approach import Approaches
from frostproof.counterexamples.execution import reproduces
from frostproof.counterexamples.script import script
from frostproof.optimizers.probe import Unusable
from frostproof.optimizers.targets import resolve, torch_optimizers
from frostproof.process.fence import fenced
from frostproof.spec.subject import Subject
from frostproof.training.naming import Unprintable
from frostproof.verification.verification import Verification
from tests.helpers.planted import BUGS
from tests.helpers.planted_programs import PROGRAM_BUGS
from tests.helpers.script_runs import corrected
from tests.helpers.search import shrunk

ROOT = Path(__file__).parent.parent


class Sought(NamedTuple):
    name: str
    subject: Subject
    invariant: str | None
    approaches: Approaches
    planted: bool


class Counts:
    """How many counterexamples were tried, reproduced, corrected and then held."""

    tried = reproduced = corrected = held = 0

    def __init__(self) -> None:
        self.lengths: list[int] = []


def everything() -> Iterator[Sought]:
    for bug in (*BUGS, *PROGRAM_BUGS):
        yield Sought(bug.name, bug.subject, bug.invariant, bug.approaches, True)
    for subject in torch_optimizers():
        for invariant in subject.expected_failures:
            yield Sought(subject.name, subject, invariant, Approaches(), False)


def searched(sought: Sought, seed: int) -> Verification:
    """Search as the dev profile does, and shrink what is found. Raises Unusable."""
    verification = Verification(
        sought.subject, "cpu", sought=sought.invariant, approaches=sought.approaches, strict=True
    )
    shrunk(verification, seed)
    return verification


def clean(folder: Path) -> None:
    """Put what scripts import into the folder, and a frostproof that cannot be imported."""
    helpers = folder / "tests" / "helpers"
    helpers.mkdir(parents=True)
    for name in ("__init__.py", "broken.py", "broken_programs.py"):
        shutil.copy(ROOT / "tests" / "helpers" / name, helpers)
    shutil.copy(ROOT / "tests" / "__init__.py", folder / "tests")
    (folder / "frostproof.py").write_text("raise ImportError('a script needs no frostproof')\n")


def run(sought: Sought, seed: int, path: Path, folder: Path, counts: Counts) -> None:
    """Write the script of each violation to `path`, and run it in `folder`."""
    try:
        verification = searched(sought, seed)
    except Unusable as unusable:
        print(f"{sought.name}: not judged: {unusable}", flush=True)
        return
    for identity, tally in verification.tallies.items():
        if tally.shown is None:
            continue
        counts.tried += 1
        name = f"{identity} of {sought.name}, seed {seed}"
        try:
            with fenced("cpu"):
                text = script(tally.shown, verification.subject, sought.approaches)
        except Unprintable as unprintable:
            print(f"{name}: no script: {unprintable}", flush=True)
            continue
        path.write_text(text)
        reproduced, said = reproduces(path, identity, folder)
        counts.reproduced += reproduced
        lines = len(text.splitlines())
        counts.lengths.append(lines)
        print(f"{name}: {'' if reproduced else 'NOT: '}{said} ({lines} lines)", flush=True)
        if sought.planted:
            path.write_text(corrected(text))
            said = reproduces(path, identity, folder).said
            counts.corrected += 1
            counts.held += said == "it exits 0"
            if said != "it exits 0":
                print(f"{name}: NOT corrected: {said}", flush=True)


def main() -> None:
    words = sys.argv[1:]
    seeds = range(int(words.pop(0)) if words and words[0].isdigit() else 1)
    named = [Sought(each.name, each, None, Approaches(), False) for each in resolve(words)]
    counts = Counts()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path.cwd() if words else Path(temporary)
        if not words:
            clean(folder)
        for sought in named or everything():
            for seed in seeds:
                run(sought, seed, Path(temporary) / "counterexample.py", folder, counts)
    print(f"{counts.reproduced} of {counts.tried} reproduce; ", end="")
    print(f"{counts.held} of {counts.corrected} exit 0 with a correct optimizer")
    if counts.lengths:
        longest = max(counts.lengths)
        print(f"lines per script: median {median(counts.lengths):g}, max {longest}")


if __name__ == "__main__":
    main()
