"""The live line: on a terminal while it lasts, and nowhere else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
SLOW = """
import time, torch
class Slow(torch.optim.SGD):
    def step(self, closure=None):
        time.sleep(0.01)
        return super().step(closure)
"""
COMMAND = [sys.executable, "-m", "frostproof", "check", "mylib:Slow", "--device", "cpu", "--max-examples", "60", "--jobs"]
LINE = re.compile(r"frostproof: [\d,]+ trials, [\d,]+ trials/s, \d+ violations(?:, \d+:\d\d left)?")


def on_a_terminal(folder: Path, jobs: str, **environment: str) -> str:
    """What a terminal receives."""
    (folder / "mylib.py").write_text(SLOW)
    ours, theirs = pty.openpty()
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "PYTEST_XDIST_WORKER", "GITHUB_STEP_SUMMARY")}
    variables = {**kept, "TERM": "xterm", "COLUMNS": "100", **environment}
    process = subprocess.Popen([*COMMAND, jobs], cwd=folder, env=variables, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    received = b""
    try:
        while chunk := os.read(ours, 65536):
            received += chunk
    except OSError:
        pass  # Linux ends a terminal that nobody holds with EIO
    os.close(ours)
    assert process.wait(60) == 0, received.decode()
    return received.decode()


@pytest.mark.parametrize("jobs", ["0", "1"])
def test_a_terminal_shows_trials_rate_violations_and_time_left(tmp_path: Path, jobs: str) -> None:
    received = on_a_terminal(tmp_path, jobs)
    seen = LINE.findall(received)
    assert any(line.endswith("left") for line in seen), received
    assert all(len(part) < 100 for part in received.split("\r") if "trials/s" in part and part.startswith("frostproof:"))
    last = received.rindex(seen[-1]) + len(seen[-1])
    assert re.match(r" *\r +\r", received[last:])  # wiped before the table
    assert "2 passed" in received


def test_logs_of_ci_have_no_such_line(tmp_path: Path) -> None:
    received = on_a_terminal(tmp_path, "0", CI="true")
    assert not LINE.search(received.replace("\n", " "))
    assert "2 passed" in received
