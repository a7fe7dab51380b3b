"""The line that moved a weight, or that raised, is found in the optimizer's own source."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from frostproof.approaches.approach import Approaches
from frostproof.optimizers.targets import resolve
from frostproof.process.fence import fenced
from frostproof.spec.subject import Subject
from frostproof.training.source_lines import SourceLine
from frostproof.verification.source_line import find_source_line
from frostproof.verification.verification import Verification
from tests.helpers.planted import BUGS
from tests.helpers.planted_programs import PROGRAM_BUGS
from tests.helpers.planted_rare import RARE_BUGS
from tests.helpers.search import search

LINES = {
    "DecaysEverything": 'parameter.mul_(1 - group["lr"] * 0.01)',
    "NoneAsZeros": 'parameter.mul_(1 - group["lr"] * group["weight_decay"])',
    "ClampsFromThirdStep": "parameter.mul_(0.5)",
    "ReadsMissingGradient": "self.update(group, parameter, parameter.grad.clone())",
    "KeepsRolling": 'parameter.add_(self.state[parameter]["buffer"], alpha=-group["lr"])',
    "MovesFirstTwo": "first[0].mul_(0.9)",
    "SwapsFrozenInEval": "parameter.mul_(0.5)",
    "ScalesAddedGroup": "parameter.mul_(0.9)",
    "ListsOfMomentum": "torch._foreach_mul_(buffers, 0.9)",
    "LoadsStateOfEach": 'state_dict["state"][number]["buffer"]',
    "PullsEveryFifth": 'parameter.lerp_(state["slow"], 0.5)',
}
"""Planted bug -> the line that moves a weight, or raises."""
PLANTED = {bug.name: bug for bug in reversed((*BUGS, *PROGRAM_BUGS, *RARE_BUGS))}


def found(subject: Subject, invariant: str, approaches: Approaches | None = None) -> SourceLine:
    for seed in range(5):
        verification = Verification(
            subject,
            "cpu",
            approaches=approaches or Approaches(),
            only_invariant=invariant if invariant in subject.expected_failures else None,
        )
        search(verification, seed, invariant)
        shown = verification.tallies[invariant].shown
        if shown is not None:
            with fenced("cpu"):
                line = find_source_line(shown, verification.subject, verification.approaches)
            assert line is not None
            return line
    raise AssertionError("no seed finds it")


@pytest.mark.parametrize("name", LINES)
def test_the_line_of_a_planted_bug_is_found(name: str) -> None:
    bug = PLANTED[name]
    line = str(found(bug.subject, bug.invariant, bug.approaches))
    place, _, text = line.partition(": ")
    assert place.startswith("tests/helpers/broken")
    assert text.startswith(LINES[name])


def test_a_line_of_torch_is_named_where_the_optimizer_is_one_of_torch() -> None:
    line = str(found(resolve(["torch.optim:LBFGS"])[0], "gradless-step-is-noop"))
    assert line.startswith("torch/optim/lbfgs.py:")


class Written(torch.optim.SGD):
    """Writes past autograd, which no version of the parameter tells."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(0.9)
        return loss


def test_a_write_past_autograd_is_found_and_a_tracer_is_put_back() -> None:
    before = sys.gettrace()
    line = found(
        Subject("tests.verification.test_source_line:Written", Written), "frozen-weights-unchanged"
    )
    assert str(line).endswith("in step(): p.data.mul_(0.9)")
    assert sys.gettrace() is before
