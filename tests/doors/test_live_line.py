"""The live line: on a terminal while it lasts, and nowhere else."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from frostproof.doors.pytest_plugin.live_line import is_watched
from tests.helpers import consumer
from tests.helpers.consumer import clean

pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
SLOW = """
import time, torch
class Slow(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
    @torch.no_grad()
    def step(self):
        time.sleep(0.01)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad, alpha=group["lr"])
"""
COMMAND = [
    sys.executable,
    "-m",
    "frostproof",
    "check",
    "mylib:Slow",
    "--device",
    "cpu",
    "--max-examples",
    "30",
    "--jobs",
]
LINE = re.compile(r"frostproof: [\d,]+ trials, [\d,]+ trials/s, \d+ violations(?:, \d+:\d\d left)?")


def on_a_terminal(folder: Path, jobs: str) -> str:
    """What a terminal receives."""
    (folder / "mylib.py").write_text(SLOW)
    ours, theirs = pty.openpty()
    variables = clean(TERM="xterm", COLUMNS="100")
    process = subprocess.Popen(
        [*COMMAND, jobs], cwd=folder, env=variables, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    received = b""
    try:
        while chunk := os.read(ours, 65536):
            received += chunk
    except OSError:
        pass  # Linux ends a terminal that nobody holds with EIO
    os.close(ours)
    assert process.wait(120) == 0, received.decode()
    return received.decode()


@pytest.mark.parametrize("jobs", ["0", "1"])
def test_a_terminal_shows_trials_rate_violations_and_time_left(tmp_path: Path, jobs: str) -> None:
    received = on_a_terminal(tmp_path, jobs)
    seen = LINE.findall(received)
    assert any(line.endswith("left") for line in seen), received
    assert all(len(line) < 100 for line in seen)
    last = received.rindex(seen[-1]) + len(seen[-1])
    assert re.match(r"(\x1b\[\d+m)* *(\x1b\[\d+m)*\r +\r", received[last:]), received[
        last:
    ]  # wiped before the table
    assert "1 passed" in received
    assert re.search(r"\r *\rfrostproof 0", received) if jobs == "1" else True
    shown = received[received.index("frostproof 0") :]
    assert "bringing up nodes" not in shown


def test_a_log_says_once_that_processes_start(tmp_path: Path) -> None:
    (tmp_path / "mylib.py").write_text(SLOW)
    done = consumer.check(tmp_path, "mylib:Slow", "--max-examples", "3", "--jobs", "1")
    assert done.stdout.count("bringing up nodes") == 1, done.stdout


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("name", "value", "watched"), [("CI", "", True), ("CI", "true", False), ("TERM", "dumb", False)]
)
def test_logs_of_ci_have_no_such_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, watched: bool
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv(name, value)
    assert is_watched() == watched
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert not is_watched()
