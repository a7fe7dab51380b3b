"""Replaying a saved case: it is judged as the search judged it, with what it was found with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from click.testing import CliRunner

from frostproof.doors.command.main import main
from frostproof.doors.python import check_optimizer
from frostproof.errors import CaseError
from frostproof.spec.casefile import load_case
from frostproof.spec.subject import Subject
from frostproof.verification.replay import replay
from tests.helpers.broken import DecaysEverything, StateFromTheStart


class Ages(torch.optim.Optimizer):
    """Adam that skips only what never had a gradient: it moves, and counts, what is frozen later.

    Its first fault changes what the second one shows.
    """

    def __init__(self, params: Any, lr: float = 0.1, betas: tuple[float, float] = (0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            one, two = group["betas"]
            for p in group["params"]:
                if p.grad is None and not self.state.get(p):
                    continue
                state = self.state[p]
                if not state:
                    state |= {"step": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
                state["step"] += 1
                if p.grad is not None:
                    state["m"].lerp_(p.grad, 1 - one)
                    state["v"].mul_(two).addcmul_(p.grad, p.grad, value=1 - two)
                m = state["m"] / (1 - one ** state["step"])
                v = state["v"] / (1 - two ** state["step"])
                p.sub_(group["lr"] * m / (v.sqrt() + 1e-8))
        return loss


class Late(torch.optim.SGD):
    """Decays everything after its warm-up, of which only a Subject with a short one shows much."""

    def __init__(self, params: Any, warmup_steps: int, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        self.after, self.count = warmup_steps, 0

    def step(self, closure: Any = None) -> Any:
        self.count += 1
        loss = super().step(closure)
        with torch.no_grad():
            for p in (p for group in self.param_groups for p in group["params"]):
                p.mul_(0.9 if self.count > self.after else 1.0)
        return loss


class Strange(Late):
    """The same, with an argument of which nobody knows a value."""

    def __init__(self, params: Any, after: int, lr: float = 0.1) -> None:
        super().__init__(params, after, lr)


LATE = Subject("tests.verification.test_replay:Late", Late, arguments={"warmup_steps": 1})
STRANGE = Subject("tests.verification.test_replay:Strange", Strange, arguments={"after": 1})


def test_each_violation_shows_again_though_another_hides_it(tmp_path: Path) -> None:
    check_optimizer(Ages, devices=["cpu"], seed=2, cases=tmp_path)
    files = sorted(tmp_path.glob("*.json"))
    assert any("trainable-updates-match" in path.name for path in files)
    for path in files:
        verdict = replay(load_case(path))
        assert verdict.outcome == "STILL VIOLATED"
        assert load_case(path).invariant in verdict.text.partition(": ")[0], path.name


@pytest.mark.parametrize("subject", [LATE, STRANGE], ids=["guessed", "unknown"])
def test_a_class_gets_the_arguments_that_its_subject_had(tmp_path: Path, subject: Subject) -> None:
    check_optimizer(subject, devices=["cpu"], max_examples=20, seed=0, cases=tmp_path)
    saved = load_case(next(tmp_path.glob("*frozen-weights-unchanged.json")))
    assert replay(saved).outcome == "STILL VIOLATED"
    for arguments, now in (("no_such=1", "(warmup_steps=100|none)"), ("after=Late", "")):
        with pytest.raises(
            CaseError, match=f"given {arguments}, and .* is given {now}.*module:NAME"
        ):
            replay(msgspec.structs.replace(saved, arguments=arguments))


def test_a_case_is_replayed_with_a_copy_that_was_mended(tmp_path: Path) -> None:
    check_optimizer(DecaysEverything, devices=["cpu"], max_examples=20, seed=0, cases=tmp_path)
    (path,) = tmp_path.glob("*frozen-weights-unchanged.json")
    own = CliRunner().invoke(main, ["replay", str(path)])
    assert (own.exit_code, own.output.split()[0]) == (1, "STILL")
    mended = "tests.helpers.broken:Sound"
    other = CliRunner().invoke(main, ["replay", "--target", mended, str(path)])
    assert (other.exit_code, other.output.split()[0]) == (0, "FIXED")
    assert f"{mended} on cpu" in other.output


def test_what_is_expected_is_told_from_what_is_to_be_mended(tmp_path: Path) -> None:
    known = {"no-state-for-frozen": "allocates in __init__"}
    check_optimizer(
        StateFromTheStart, devices=["cpu"], expected_failures=known, seed=0, cases=tmp_path
    )
    (path,) = tmp_path.glob("*no-state-for-frozen.json")
    verdict = replay(load_case(path))
    assert verdict.outcome == "AS EXPECTED"
    assert verdict.text.startswith("allocates in __init__; ")
