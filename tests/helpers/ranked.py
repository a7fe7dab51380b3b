"""Optimizers that do something to the processes of their ranks."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.helpers.broken import Sound
from tests.helpers.broken_settings import rank

MARKER = "FROSTPROOF_TEST_MARKER"
"""The environment variable with a path. What is to be done once is done if no file is there."""


class DiesOnce(Sound):
    def step(self, closure: Any = None) -> Any:
        marker = Path(os.environ[MARKER])
        if rank() == 1 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(closure)


class Dies(Sound):
    def step(self, closure: Any = None) -> Any:
        if rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(closure)


class Sleeps(Sound):
    def step(self, closure: Any = None) -> Any:
        if rank() == 1:
            time.sleep(600)
        return super().step(closure)


class IsSlowOnce(Sound):
    """Later than the first limit that its test sets (1 s), and in time for the second (20 s)."""

    def step(self, closure: Any = None) -> Any:
        marker = Path(os.environ[MARKER])
        if rank() == 1 and not marker.exists():
            marker.touch()
            time.sleep(4)
        return super().step(closure)


class TellsItsProcess(Sound):
    """Writes its process to the file, and raises if other machines could reach it."""

    def step(self, closure: Any = None) -> Any:
        with Path(os.environ[MARKER]).open("a") as file:
            file.write(f"{os.getpid()}\n")
        addresses = listening()
        loopback = [each for each in addresses if each.startswith("0100007F:")]  # 127.0.0.1
        if not addresses or loopback != addresses:
            raise RuntimeError(f"listens at {addresses}")
        return super().step(closure)


def listening() -> list[str]:
    """The addresses at which this process listens, in hexadecimal (Linux)."""
    inodes = {str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}
    lines = [
        line.split()
        for kind in ("tcp", "tcp6")
        for line in Path(f"/proc/self/net/{kind}").read_text().splitlines()[1:]
    ]
    return [each[1] for each in lines if each[3] == "0A" and f"socket:[{each[9]}]" in inodes]
