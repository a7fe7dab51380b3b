"""The script of each violation, run in a process of its own before it is reported."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from frostproof.counterexamples.execution import reproduces
from frostproof.counterexamples.script import script
from frostproof.errors import UnprintableError
from frostproof.process.fence import fenced
from frostproof.verification.source_line import find_source_line
from frostproof.verification.tally import Tally
from frostproof.verification.verification import Verification


class Reproduction(NamedTuple):
    """The script of a violation."""

    text: str | None
    """The script; None if it cannot be written."""

    doubtful: bool
    """Whether the violation did not show in the script's own process."""

    said: str
    """What the script printed, or why there is none."""


def reproductions(
    verification: Verification, folder: Path, wanted: Collection[str] | None = None
) -> dict[str, Reproduction]:
    """Id of each violated invariant -> its script, run from `folder`; of all, or of those `wanted`.

    The line of the source that is at fault is noted in its tally, where it can be found.
    """
    with verification.phase("scripts"):
        return {
            identity: _reproduction(verification, identity, tally, folder)
            for identity, tally in verification.tallies.items()
            if tally.shown is not None
            and not verification.has_own_search(identity)
            and (wanted is None or identity in wanted)
        }


def _reproduction(
    verification: Verification, identity: str, tally: Tally, folder: Path
) -> Reproduction:
    assert tally.shown is not None
    shown = tally.shown, verification.subject, verification.approaches
    try:
        with fenced(verification.indexed_device, verification.subject.setting):
            tally.source = str(find_source_line(*shown) or "")
            text = script(*shown)
    except UnprintableError as unprintable:
        return Reproduction(None, False, str(unprintable))
    module = verification.subject.target.partition(":")[0]
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "counterexample.py"
        path.write_text(text, encoding="utf-8")
        reproduced, said = reproduces(path, identity, folder, sys.path, module=module)
    return Reproduction(text, not reproduced, said)
