"""The README shows what its command prints."""

from __future__ import annotations

import re
from pathlib import Path

from tests.helpers.consumer import ROOT, run
from tests.helpers.warm import frostproof

LION = """import torch


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.1):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"] * group["weight_decay"])
                if p.grad is None:
                    continue
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                slow, fast = group["betas"]
                update = average * slow + p.grad * (1 - slow)
                p.sub_(update.sign(), alpha=group["lr"])
                average.mul_(fast).add_(p.grad, alpha=1 - fast)
        return loss
"""


def without_counts(line: str) -> str:
    """The line without numbers that another version of a library may change."""
    if line.startswith(("WRONG", "    ")) and "trials" not in line:
        return line
    return re.sub(r"[\d.,]*\d", "N", line)


def test_the_readme_shows_what_its_command_prints(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (words,) = re.findall(r"^    frostproof (check mylib.*)$", readme[: readme.index("## ")], re.M)
    (shown,) = re.findall(r"^```\n(.*?)^```$", readme[: readme.index("## ")], re.M | re.S)
    fragment = re.findall(r"^    ( *\S.*)$", readme[readme.index("This `Lion`") :], re.M)[:4]
    assert all(line.strip() in LION for line in fragment)
    (tmp_path / "mylib").mkdir()
    (tmp_path / "mylib" / "optim.py").write_text(LION)
    done = run(tmp_path, frostproof(*words.split()))
    printed = [without_counts(line) for line in done.stdout.splitlines()]
    for line in shown.splitlines():
        assert line == "..." or without_counts(line) in printed, done.stdout
