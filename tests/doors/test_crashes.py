"""A crash costs one verdict and never the run, however many optimizers end their process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.consumer import PLAIN, check

OWN = """
import ctypes


class Ends(Plain):
    # Ends its process where something that it owns is frozen.
    def step(self, closure=None):
        if any(p.grad is None and not p.requires_grad for group in self.param_groups for p in group["params"]):
            self.end()
        return super().step(closure)


class Exits(Ends):
    def end(self):
        os._exit(0)


class Faults(Ends):
    def end(self):
        ctypes.string_at(0)


class ExitsToo(Exits): pass
class ExitsAsWell(Exits): pass
class FaultsToo(Faults): pass
class FaultsAsWell(Faults): pass
"""
CRASHING = ("Exits", "Faults", "ExitsToo", "FaultsToo", "ExitsAsWell", "FaultsAsWell")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "mylib.py").write_text(PLAIN + OWN)
    return tmp_path


def statuses(project: Path) -> dict[str, str]:
    rows = json.loads((project / "out.json").read_text())["subjects"]
    return {row["target"]: row["status"] for row in rows}


def test_every_optimizer_gets_its_verdict(project: Path) -> None:
    """Twelve workers die here, more than the eight that xdist by itself replaces with `-n 2`."""
    targets = [f"mylib:{name}" for name in (*CRASHING, "Plain", "Leaky")]
    done = check(project, *targets, "--max-examples", "10", "--jobs", "2")
    assert done.returncode == 1, done.stdout + done.stderr
    crashed = dict.fromkeys((f"mylib:{name}" for name in CRASHING), "crashed")
    assert statuses(project) == {**crashed, "mylib:Plain": "held", "mylib:Leaky": "violated"}, (
        done.stdout
    )
    assert "xdist: " not in done.stdout


def test_a_limit_of_restarts_that_the_user_gives_is_kept(project: Path) -> None:
    arguments = ("mylib:Exits", "--max-examples", "10", "--jobs", "2")
    done = check(project, *arguments, "--", "--max-worker-restart=0")
    assert "xdist: worker gw" in done.stdout, done.stdout + done.stderr
    assert statuses(project) == {"mylib:Exits": "crashed"}
    assert done.returncode == 1
