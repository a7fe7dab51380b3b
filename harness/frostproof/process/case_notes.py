"""Notes of the case that a process is running, so that the case is known if the process dies.

A note is written before each trial and costs a few microseconds. Nothing is synchronised to the
disk: the file outlives the process that wrote it, if not the machine.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

MAX_NOTE_BYTES = 1 << 20
"""A larger file is not read. A case that frostproof draws takes less than 4 KiB."""

_HEAD = struct.Struct("<4sIII")
"""Magic, checksum of the rest, sizes of the node id and of the case in bytes."""
_MAGIC = b"frpn"


class CaseNotes:
    """The file in which one process notes its case. Each note overwrites the last."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file cannot be written."""
        self.path = path
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)

    def write(self, node_id: str, case: bytes) -> None:
        """Note that this item now runs this case, given as JSON."""
        node = node_id.encode("utf-8", "surrogateescape")
        checksum = zlib.crc32(case, zlib.crc32(node))
        self._put(_HEAD.pack(_MAGIC, checksum, len(node), len(case)) + node + case)

    def touch(self) -> None:
        """Note that the case is still running: the file's time is that of the last sign of life."""
        os.utime(self.path)

    def clear(self) -> None:
        """Note that no case is running."""
        self._put(bytes(_HEAD.size))

    def _put(self, data: bytes) -> None:
        """Write from the start. The rest of a longer note stays behind it, and is not read."""
        if hasattr(os, "pwrite"):
            os.pwrite(self.file, data, 0)
        else:
            os.lseek(self.file, 0, os.SEEK_SET)
            os.write(self.file, data)


def read_note(path: Path) -> tuple[str, bytes] | None:
    """Return node id and case of the last note, or None if there is none or it is incomplete."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_NOTE_BYTES + 1)
    except OSError:
        return None
    if len(data) < _HEAD.size:
        return None
    magic, checksum, node_size, case_size = _HEAD.unpack_from(data)
    body = data[_HEAD.size : _HEAD.size + node_size + case_size]
    if magic != _MAGIC or len(body) != node_size + case_size or zlib.crc32(body) != checksum:
        return None
    return body[:node_size].decode("utf-8", "surrogateescape"), body[node_size:]
