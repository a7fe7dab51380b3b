"""How many counterexamples reproduce as scripts, each in a process of its own.

Usage: python -m benchmarks.reproducers [SEEDS] [TARGET...]

From the folder of the project. Without targets: each planted bug under each protocol, and the
smallest case of each planted bug and of each known failure of torch.optim. The scripts run where
importing frostproof fails, with nothing but torch and the broken optimizers, and must exit 1 with
the line that says why; those of planted bugs must exit 0 with a correct optimizer in its place.
With targets: every violation that is found of them, in the environment as it is.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from frostproof.approaches.approach import Approaches
from frostproof.counterexamples.execution import reproduces
from frostproof.counterexamples.script import script
from frostproof.errors import UnprintableError, UnusableError
from frostproof.optimizers.targets import resolve, torch_optimizers
from frostproof.process.fence import fenced
from frostproof.spec.subject import Subject
from frostproof.verification.verification import Verification
from tests.helpers.combinations import COMBINATIONS, EVERY
from tests.helpers.planted import BUGS
from tests.helpers.planted_programs import PROGRAM_BUGS
from tests.helpers.planted_rare import RARE_BUGS
from tests.helpers.script_runs import corrected, lay_out
from tests.helpers.search import shrunk


class Sought(NamedTuple):
    name: str
    subject: Subject
    invariant: str | None
    approaches: Approaches
    planted: bool


def everything() -> Iterator[Sought]:
    for bug in (*BUGS, *PROGRAM_BUGS, *RARE_BUGS):
        yield Sought(bug.name, bug.subject, bug.invariant, bug.approaches, True)
    for subject in torch_optimizers():
        for invariant in subject.expected_failures:
            yield Sought(subject.name, subject, invariant, Approaches(), False)


def searched(sought: Sought, seed: int) -> Verification:
    """What the dev profile finds, shrunk."""
    verification = Verification(
        sought.subject,
        "cpu",
        only_invariant=sought.invariant,
        approaches=sought.approaches,
        strict=True,
    )
    shrunk(verification, seed)
    return verification


def combined(path: Path, folder: Path) -> None:
    """Run the scripts of every planted bug under every protocol, as they are and mended."""
    broken = mended = 0
    for each in COMBINATIONS:
        text, identity = each.script(), each.bug.invariant
        if text is None:
            print(f"{each.id}: NOT shown", flush=True)
            continue
        path.write_text(text)
        first = reproduces(path, identity, folder)
        path.write_text(corrected(text, each.bug.approaches))
        second = reproduces(path, identity, folder)
        broken += first.reproduced
        mended += second.said == "it exits 0"
        if not first.reproduced or second.said != "it exits 0":
            print(f"{each.id}: NOT: {first.said}; mended: {second.said}", flush=True)
    print(f"{len(COMBINATIONS)} of {len(EVERY)} combinations of bug and protocol are possible:")
    print(f"{broken} exit 1 with the bug, {mended} exit 0 with a correct optimizer")


def main() -> None:
    words = sys.argv[1:]
    seeds = range(int(words.pop(0)) if words and words[0].isdigit() else 1)
    targets = [
        Sought(subject.name, subject, None, Approaches(), False) for subject in resolve(words)
    ] or list(everything())
    tried = shown = mended = repaired = 0
    lengths: list[int] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if words:
            folder = Path.cwd()
        else:
            lay_out(folder)
            combined(Path(temporary) / "counterexample.py", folder)
        for sought in targets:
            for seed in seeds:
                try:
                    verification = searched(sought, seed)
                except UnusableError as unusable:
                    print(f"{sought.name}: not judged: {unusable}", flush=True)
                    continue
                for identity, tally in verification.tallies.items():
                    if tally.shown is None:
                        continue
                    tried += 1
                    name = f"{identity} of {sought.name}, seed {seed}"
                    try:
                        with fenced("cpu"):
                            text = script(tally.shown, verification.subject, sought.approaches)
                    except UnprintableError as unprintable:
                        print(f"{name}: no script: {unprintable}", flush=True)
                        continue
                    path = Path(temporary) / "counterexample.py"
                    path.write_text(text)
                    reproduced, said = reproduces(path, identity, folder)
                    shown += reproduced
                    lengths.append(len(text.splitlines()))
                    print(
                        f"{name}: {'' if reproduced else 'NOT: '}{said} ({lengths[-1]} lines)",
                        flush=True,
                    )
                    if sought.planted:
                        path.write_text(corrected(text))
                        mended += 1
                        said = reproduces(path, identity, folder).said
                        repaired += said == "it exits 0"
                        if said != "it exits 0":
                            print(f"{name}: NOT mended: {said}", flush=True)
    print(f"{shown} of {tried} reproduce; {repaired} of {mended} exit 0 with a correct optimizer")
    print(
        f"lines per script: median {median(lengths):g}, max {max(lengths)}"
        if lengths
        else "no script"
    )


if __name__ == "__main__":
    main()
