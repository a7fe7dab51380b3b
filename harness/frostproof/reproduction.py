"""Each violation as a script of its own, run before anybody is told of it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from frostproof.fence import fenced
from frostproof.reproducer import Fleeting, Unprintable, reproduces, script
from frostproof.verification import Verification


class Reproduction(NamedTuple):
    """`text`: the script, None where none could be written. `doubtful`: whether the violation did not show again, in the
    script's own process or even here. `said`: what the script said, or why it says nothing."""

    text: str | None
    doubtful: bool
    said: str


def reproductions(verification: Verification, folder: Path) -> dict[str, Reproduction]:
    """Id of each invariant that was violated -> its script, which was run from `folder`."""
    found = {}
    for identity, tally in verification.tallies.items():
        if tally.case is None or verification.leaves(identity):
            continue
        try:
            with fenced(verification.place):
                text = script(tally.case, verification.subject, identity, verification.device, verification.approaches)
        except Unprintable as unprintable:
            found[identity] = Reproduction(None, isinstance(unprintable, Fleeting), str(unprintable))
            continue
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "counterexample.py"
            path.write_text(text, encoding="utf-8")
            reproduced, said = reproduces(path, identity, folder, sys.path, module=verification.subject.target.partition(":")[0])
            found[identity] = Reproduction(text, not reproduced, said)
    return found
