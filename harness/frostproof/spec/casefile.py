"""Case files: a counterexample as versioned JSON. Loading it runs no code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from pathlib import Path

import msgspec

from frostproof.errors import CaseError, one_line
from frostproof.spec.case import Case, decoded
from frostproof.spec.saved_files import UNDECODABLE, Envelope, read_versioned

FORMAT, VERSION = "frostproof-case", 1
CRASHED = "crashed"
"""Takes the place of an invariant's id if the whole process ended, or hung."""

LARGEST = 1 << 20
"""The largest case file that is read, in bytes; a drawn case has less than 4 KiB."""


class CaseFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A case with the optimizer that it was found for and the invariant that it breaks."""

    format: str = FORMAT
    version: int = VERSION
    frostproof: str = ""
    """The version of frostproof that saved it."""

    target: str
    variant: str
    device: str
    invariant: str
    message: str | None
    case: Case

    event: int | None = None
    """The number of the event at which it shows."""

    parameters: tuple[int, ...] = ()
    """The positions of the parameters in which it shows."""

    way: str = ""
    """`module:name` of the user's own way to freeze."""

    arguments: str | None = None
    """The constructor arguments that the optimizer was given, as `given_arguments` writes them;
    None in files that do not say."""

    expected: str = ""
    """The reason why it was stated to fail."""

    @property
    def event_in_program(self) -> int | None:
        """`event`, or None if the program has no event of this number."""
        known = self.event is not None and 0 <= self.event < len(self.case.program)
        return self.event if known else None


def save(folder: Path, found: CaseFile, script: str | None = None) -> tuple[Path, Path | None]:
    """Write a counterexample and, beside it, its script. Return the paths of both.

    The files are named after the optimizer and the invariant. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(
        folder, found.target, found.variant, found.device, found.invariant, way=found.way
    )
    found = msgspec.structs.replace(found, frostproof=importlib.metadata.version("frostproof"))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    beside = path.with_suffix(".py")
    if script is None:
        beside.unlink(missing_ok=True)  # an earlier run may have left one, for another case
        return path, None
    beside.write_text(script, encoding="utf-8")
    return path, beside


def path_of(
    folder: Path, target: str, variant: str, device: str, invariant: str, *, way: str = ""
) -> Path:
    """The path of the counterexample of this optimizer and this invariant, under a user's way."""
    whole = "-".join(filter(None, (target, variant, device, way, invariant)))
    name = re.sub(r"[^\w.-]+", "_", whole)
    if len(name.encode()) > 200:  # file systems take 255 bytes
        name = f"{name[:40]}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}-{invariant}"
    return folder / f"{name}.json"


def load_case(path: Path) -> CaseFile:
    """The case file at `path`. Raises CaseError, one line, on anything else."""
    try:
        data, envelope = read_versioned(
            path, largest=LARGEST, kind="case", version=VERSION, command="frostproof check"
        )
        return _decode(data, envelope)
    except CaseError as error:
        raise CaseError(one_line(f"{one_line(str(path), 160)}: {error}")) from None


def _decode(data: bytes, envelope: Envelope) -> CaseFile:
    try:
        found = decoded(data, CaseFile)
        found.case.check()
    except (*UNDECODABLE, CaseError) as error:
        ours, theirs = importlib.metadata.version("frostproof"), envelope.frostproof
        versions = (
            f" by frostproof {ours}, and {theirs} saved it" if theirs not in ("", ours) else ""
        )
        raise CaseError(
            f"not a case that can be run{versions}: {error}; search again with `frostproof check`"
        ) from None
    return found
