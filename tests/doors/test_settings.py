"""The option --setting: what is run, how rows and files name it, and how a case is run again."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers import warm
from tests.helpers.consumer import PLAIN, check, run

GRAPHS = """
import torch


class Graphs(torch.optim.SGD):
    # Its code for graphs drops the loss of its closure.
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr, foreach=False)

    def step(self, closure=None):
        loss = super().step(closure)
        return None if torch.compiler.is_compiling() else loss
"""


def test_a_case_of_a_setting_is_found_named_and_run_again(tmp_path: Path) -> None:
    (tmp_path / "mylib.py").write_text(GRAPHS)
    done = check(
        tmp_path,
        "mylib:Graphs",
        *("--setting", "eager", "--setting", "compiled", "--seed", "1"),
        *("--max-examples", "32", "--jobs", "0"),
    )
    assert done.returncode == 1, done.stdout
    results = json.loads((tmp_path / "out.json").read_text())
    assert results["version"] == 1
    rows = {row["variant"]: row for row in results["subjects"]}
    assert (rows["default"]["status"], rows["compiled"]["status"]) == ("held", "violated")
    assert "mylib:Graphs compiled on cpu: closure-is-honoured" in done.stdout
    broken = next(
        row for row in rows["compiled"]["invariants"] if row["id"] == "closure-is-honoured"
    )
    assert "torch.compile" in (tmp_path / broken["reproducer"]).read_text()
    again = run(tmp_path, warm.frostproof("replay", broken["case"]))
    assert again.returncode == 1, again.stdout
    assert "STILL VIOLATED" in again.stdout
    (tmp_path / "mylib.py").write_text(
        GRAPHS.replace("None if torch.compiler.is_compiling() else loss", "loss")
    )
    again = run(tmp_path, warm.frostproof("replay", broken["case"]))
    assert again.returncode == 0, again.stdout


def test_settings_are_listed_and_an_unknown_one_is_one_line(tmp_path: Path) -> None:
    listed = run(tmp_path, warm.frostproof("list", "settings"))
    assert listed.stdout.split("\n")[0].startswith("eager ")
    assert "\ncompiled " in listed.stdout
    done = check(tmp_path, "torch.optim:SGD", "--setting", "compield")
    assert done.returncode == 2
    assert "Did you mean compiled?" in done.stderr


def test_a_model_of_ones_own_is_verified_in_a_setting(tmp_path: Path) -> None:
    (tmp_path / "mylib.py").write_text(
        f"{PLAIN}\n\nfrom torch import nn\n\n\ndef net():\n"
        "    return nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))\n"
    )
    own = ("--model", "mylib:net", "--freeze", "0.*", "--input", "4,2", "--max-examples", "17")
    both = ("--setting", "compiled", "--setting", "ddp")
    done = check(tmp_path, "mylib:Plain", *own, *both, "--jobs", "0")
    assert done.returncode == 0, done.stdout
