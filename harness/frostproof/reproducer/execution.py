"""A script is run in a process of its own before anybody is shown it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

TIMEOUT = 60


class Execution(NamedTuple):
    """Whether a script fails for the stated reason; `said` is its last line, or why it shows nothing."""

    reproduced: bool
    said: str


def reproduces(path: Path, invariant: str, folder: Path, paths: Sequence[str] = (), timeout: float = TIMEOUT) -> Execution:
    """Run the script in a fresh Python from `folder`, which it can import from, as from `paths`.

    It reproduces where it exits 1 with the line that names `invariant`; a traceback, or any other exit, shows nothing.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, paths)])}
    try:
        done = subprocess.run(
            [sys.executable, str(path)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Execution(False, f"it took more than {timeout:g} s")
    return verdict(done.returncode, done.stderr, invariant)


def verdict(code: int, errors: str, invariant: str) -> Execution:
    """What an exit code and the standard error say."""
    lines = errors.strip().splitlines()
    # Nothing but the script's own assertion writes such a line; a library may write others after it, as the process ends.
    stated = [line for line in lines if line.startswith(f"{invariant}: ")]
    if code == 0:
        return Execution(False, "it exits 0")
    if code == 1 and stated:
        return Execution(True, stated[-1])
    return Execution(False, f"it exits {code}: {lines[-1]:.200}" if lines else f"it exits {code}")
