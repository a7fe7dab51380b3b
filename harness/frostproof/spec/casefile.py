"""Case files: a counterexample with what it shows, as versioned JSON. Loading one executes nothing from it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from pathlib import Path

import msgspec

from frostproof.errors import CaseError, one_line
from frostproof.spec.case import Case

FORMAT, VERSION = "frostproof-case", 1
CRASHED = "crashed"
"""Stands for an invariant in the file of a case in which the whole process ended, or hung."""

LARGEST = 1 << 20
"""Bytes of a case file that are read at all; what is drawn stays below 4 KiB."""


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


class _Envelope(msgspec.Struct):
    """What every version of the format has."""

    format: str
    version: int
    frostproof: str = ""


def save(folder: Path, found: CaseFile, script: str | None = None) -> tuple[Path, Path | None]:
    """Write a counterexample and, beside it, its script. Return the paths of both.

    The files are named after the optimizer and the invariant. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, found.target, found.variant, found.device, found.invariant)
    found = msgspec.structs.replace(found, frostproof=importlib.metadata.version("frostproof"))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    beside = path.with_suffix(".py")
    if script is None:
        beside.unlink(missing_ok=True)  # an earlier run may have left one, for another case
        return path, None
    beside.write_text(script, encoding="utf-8")
    return path, beside


def path_of(folder: Path, target: str, variant: str, device: str, invariant: str) -> Path:
    """Where the counterexample of this subject and invariant is kept."""
    whole = "-".join((target, variant, device, invariant))
    name = re.sub(r"[^\w.-]+", "_", whole)
    if len(name.encode()) > 200:  # file systems take 255 bytes
        name = f"{name[:40]}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}-{invariant}"
    return folder / f"{name}.json"


def load_case(path: Path) -> CaseFile:
    """The case file at `path`. Raises CaseError, one line that says what to do, on anything that is none."""
    try:
        return _decoded(read_bounded(path, LARGEST, "case"))
    except CaseError as error:
        raise CaseError(one_line(f"{one_line(str(path), 160)}: {error}")) from None


def read_bounded(path: Path, largest: int, what: str) -> bytes:
    """The bytes of a file of at most `largest` bytes. Raises CaseError where there is none, or a larger one, unread."""
    try:
        if not path.is_file():
            raise CaseError(
                f"{'a folder' if path.is_dir() else 'no such file'}: name a {what} file"
            )
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CaseError(f"cannot be read ({reason}): name a {what} file") from None
    if len(data) > largest:
        raise CaseError(
            f"larger than {largest >> 20} MiB, so no {what} file that frostproof wrote: name another file"
        )
    return data


def _decoded(data: bytes) -> CaseFile:
    try:
        envelope = msgspec.json.decode(data, type=_Envelope)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise CaseError(
            f"no case file ({error}): name a file that `frostproof check` saved"
        ) from None
    if envelope.format != FORMAT:
        raise CaseError(
            f"no case file, its format is {envelope.format!r}: name a file that `frostproof check` saved"
        )
    if envelope.version > VERSION:
        raise CaseError(
            f"saved by a newer frostproof, as version {envelope.version} of the format: this one reads {VERSION}, so upgrade it"
        )
    if envelope.version < 1:
        raise CaseError(
            f"version {envelope.version} of the format never was: name a file that `frostproof check` saved"
        )
    try:
        found = msgspec.json.decode(data, type=CaseFile)
        found.case.check()
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, CaseError) as error:
        raise CaseError(
            f"no case that this frostproof can run{_saved_by(envelope)}: {error}; search again with `frostproof check`"
        ) from None
    return found


def _saved_by(envelope: _Envelope) -> str:
    ours = importlib.metadata.version("frostproof")
    return (
        f" by frostproof {ours}, and {envelope.frostproof} saved it"
        if envelope.frostproof not in ("", ours)
        else ""
    )
