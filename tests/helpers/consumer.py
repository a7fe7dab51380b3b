"""Projects that use the library: their optimizers, calls of `check`, and environments for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from frostproof.process.fork_server import VARIABLE
from tests.helpers import warm

ROOT = Path(__file__).parents[2]


def leaky(base: str) -> str:
    """A class that moves what is frozen, too."""
    return f"""

class Leaky({base}):
    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(0.9)
        return super().step(closure)
"""


PLAIN = """
import os, signal, time
from pathlib import Path
import torch
from torch.optim import SGD


class Plain(SGD):
    # One implementation, where SGD has several.
    def __init__(self, params, lr=0.1, momentum=0.0):
        super().__init__(params, lr=lr, momentum=momentum, foreach=False)


class Deaf(Plain):
    # Drops the loss of its closure: one violation, which is soon shrunk.
    def step(self, closure=None):
        super().step(closure)
"""


SHY = f"""{PLAIN}
import sys


class Shy(Plain):
    # Drops the loss of its closure where the harness is there, and not in a script.
    def step(self, closure=None):
        loss = super().step(closure)
        return None if "frostproof" in sys.modules else loss
"""


def clean(**variables: str) -> dict[str, str]:
    """The variables of this process and these, without those that pytest and CI set."""
    told = ("CI", "GITHUB_STEP_SUMMARY", "HYPOTHESIS_STORAGE_DIRECTORY", VARIABLE)
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("PYTEST_") and key not in told
    } | variables


OPTIONS = ("--device", "cpu", "--json", "out.json")


def command(*arguments: str) -> list[str]:
    """A call of `check`, in a Python of its own, with results in out.json."""
    return [sys.executable, "-m", "frostproof", "check", *OPTIONS, *arguments]


def run(folder: Path, words: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """A command, run in `folder` to its end, with these variables."""
    return subprocess.run(
        words,
        cwd=folder,
        env=clean(**variables),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def check(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A call of `check` with results in out.json, run in `folder` to its end, in a fork."""
    return run(folder, warm.frostproof("check", *OPTIONS, *arguments), **variables)


class Consumer(NamedTuple):
    """A project with folders named harness/ and properties/, and an environment for it.

    The wheel is installed in the environment.
    """

    folder: Path
    scripts: Path

    def run(self, *command: str, timeout: int = 300) -> subprocess.CompletedProcess[str]:
        program = [str(self.scripts / command[0]), *command[1:]]
        return subprocess.run(
            program,
            cwd=self.folder,
            env=clean(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def check(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(
            "frostproof", "check", "--device", "cpu", "--max-examples", "20", *arguments
        )

    def results(self, name: str) -> dict[str, dict[str, object]]:
        data = json.loads((self.folder / name).read_text())
        doubtful = any(row["status"] == "doubtful" for row in data["subjects"])
        assert (data["format"], data["version"]) == ("frostproof-results", 2 if doubtful else 1)
        return {row["target"]: row for row in data["subjects"]}


def wheel(folder: Path) -> Path:
    """The wheel of this checkout, built into `folder`."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)],
        check=True,
    )
    (built,) = folder.glob("frostproof-*.whl")
    return built


def environment(folder: Path, wheel: Path) -> Path:
    """A virtual environment in `folder` with the wheel in it; the folder of its programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = str(scripts / "python")
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    # torch and the rest come from this environment, so that only the wheel is installed anew.
    (Path(where.stdout.strip()) / "ours.pth").write_text(str(Path(pytest.__file__).parent.parent))
    pip = [sys.executable, "-m", "pip", "--python", python]
    subprocess.run(
        [*pip, "install", "-q", "--no-deps", "--force-reinstall", str(wheel)], check=True
    )
    return scripts
