"""The option --setting: what is run, how rows and files name it, and how a case is run again."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers import warm
from tests.helpers.consumer import PLAIN, check, run

RANKED = """
import torch


class Ranked(torch.optim.SGD):
    # Drops the loss of its closure where it trains on several ranks.
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr, foreach=False)

    def step(self, closure=None):
        loss = super().step(closure)
        return None if torch.distributed.is_initialized() else loss
"""


def test_a_case_of_a_setting_is_found_named_and_run_again(tmp_path: Path) -> None:
    (tmp_path / "mylib.py").write_text(RANKED)
    done = check(
        tmp_path,
        "mylib:Ranked",
        *("--setting", "eager", "--setting", "ddp", "--seed", "1"),
        *("--max-examples", "16", "--jobs", "0"),
    )
    assert done.returncode == 1, done.stdout
    results = json.loads((tmp_path / "out.json").read_text())
    assert results["version"] == 1
    rows = {row["variant"]: row for row in results["subjects"]}
    assert (rows["default"]["status"], rows["ddp"]["status"]) == ("held", "violated")
    assert "mylib:Ranked ddp on cpu: closure-is-honoured" in done.stdout
    broken = next(row for row in rows["ddp"]["invariants"] if row["id"] == "closure-is-honoured")
    assert "torch.distributed" in (tmp_path / broken["reproducer"]).read_text()
    again = run(tmp_path, warm.frostproof("replay", broken["case"]))
    assert again.returncode == 1, again.stdout
    assert "STILL VIOLATED" in again.stdout
    (tmp_path / "mylib.py").write_text(
        RANKED.replace("None if torch.distributed.is_initialized() else loss", "loss")
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
