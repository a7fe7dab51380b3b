"""Notes: which case a process has at hand, so that one which dies leaves its last words.

A note is written before each trial, and so costs a few microseconds: nothing is synchronised to the disk, as what was written
outlives the process that wrote it, and only the machine's own end loses it.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

LARGEST = 1 << 20
"""Bytes of a note that are read at all; what is drawn stays below 4 KiB."""

_HEAD = struct.Struct("<4sIII")
_MAGIC = b"frpn"


class CaseNotes:
    """The file in which one process notes its case, each note in the place of the last. Raises OSError where there can be none."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)

    def write(self, nodeid: str, case: bytes) -> None:
        """Note that the item `nodeid` now runs this case, given as JSON."""
        node = nodeid.encode("utf-8", "surrogateescape")
        self._put(
            _HEAD.pack(_MAGIC, zlib.crc32(case, zlib.crc32(node)), len(node), len(case))
            + node
            + case
        )

    def clear(self) -> None:
        """Note that no case is at hand."""
        self._put(bytes(_HEAD.size))

    def close(self) -> None:
        os.close(self.file)

    def _put(self, data: bytes) -> None:
        """In one go from the start; what is left behind it, of a longer note, is not read."""
        if hasattr(os, "pwrite"):
            os.pwrite(self.file, data, 0)
        else:
            os.lseek(self.file, 0, os.SEEK_SET)
            os.write(self.file, data)


def read(path: Path) -> tuple[str, bytes] | None:
    """The item and the case of the last note; None where there is none, or one that was not written to its end."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError:
        return None
    if len(data) < _HEAD.size:
        return None
    magic, checksum, first, second = _HEAD.unpack_from(data)
    body = data[_HEAD.size : _HEAD.size + first + second]
    if magic != _MAGIC or len(body) != first + second or zlib.crc32(body) != checksum:
        return None
    return body[:first].decode("utf-8", "surrogateescape"), body[first:]
