"""The files that a user names for what a run writes."""

from __future__ import annotations

from pathlib import Path

from frostproof.errors import UsageError


def check_writable(*paths: Path | None) -> None:
    """Raise UsageError, before anything is run, if one of these files cannot be written."""
    given = [path.absolute() for path in paths if path is not None]
    for path in given:
        if given.count(path) > 1:
            raise UsageError(f"two results would be written to {str(path)!r}: give each a file")
    for path in filter(None, paths):
        if not path.absolute().parent.is_dir():
            raise UsageError(f"cannot write {str(path)!r}: make its folder first")
        if path.is_dir():
            raise UsageError(f"cannot write {str(path)!r}: it is a folder, so name a file in it")
