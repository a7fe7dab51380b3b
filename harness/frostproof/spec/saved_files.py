"""Files from anywhere: their size and their version are checked before their content."""

from __future__ import annotations

from pathlib import Path

import msgspec

from frostproof.errors import CaseError

UNDECODABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""The exceptions that decoding the JSON of a stranger may raise."""


class Envelope(msgspec.Struct):
    """The fields that every version of every format has."""

    format: str
    version: int
    frostproof: str = ""


def read_versioned(
    path: Path, *, largest: int, kind: str, version: int, command: str
) -> tuple[bytes, Envelope]:
    """The bytes of a file of the format `frostproof-KIND`, in a version that can be read.

    `command` writes such files, and `version` is the newest. Raises CaseError, one line.
    """
    data = read_bounded(path, largest, kind)
    mend = f"name a file that `{command}` wrote"
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
    except UNDECODABLE as error:
        raise CaseError(f"not a {kind} file ({error}): {mend}") from None
    if envelope.format != f"frostproof-{kind}":
        raise CaseError(f"not a {kind} file, its format is {envelope.format!r}: {mend}")
    if envelope.version > version:
        raise CaseError(
            f"version {envelope.version} of the format, from a newer frostproof: "
            f"this one reads version {version}, so upgrade it"
        )
    if envelope.version < 1:
        raise CaseError(f"version {envelope.version} of the format never existed: {mend}")
    return data, envelope


def read_bounded(path: Path, largest: int, kind: str) -> bytes:
    """The bytes of a file of at most `largest` bytes. Raises CaseError, without reading more."""
    try:
        if not path.is_file():
            why = "a folder" if path.is_dir() else "no such file"
            raise CaseError(f"{why}: name a {kind} file")
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CaseError(f"cannot be read ({reason}): name a {kind} file") from None
    if len(data) > largest:
        raise CaseError(
            f"larger than {largest >> 20} MiB, which no {kind} file of frostproof is: "
            "name another file"
        )
    return data
