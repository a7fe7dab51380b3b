"""Each parameter under an optimizer of its own, beside A, which has all of them in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import LBFGS, SGD, Adam, Optimizer, SparseAdam

from frostproof.approaches.each_alone import EachAlone
from frostproof.counterexamples.script import script
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.probe import probe
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Group
from frostproof.spec.layers import Linear
from frostproof.spec.program import Freeze, Step, Thaw
from frostproof.verification.item_report import item_report
from frostproof.verification.verification import Verification
from tests.helpers.broken import RateByPosition, Sound
from tests.helpers.broken_together import CachesRateByDtype, CountOfFirst
from tests.helpers.script_runs import corrected, run_here
from tests.helpers.suspicious import ClipsLargeNorms, GlobalNorm, NormOfEach, Stochastic
from tests.trial.test_programs import FIRST, LAST, case_of, judged, outcome_of


class OneDistance(Sound):
    """Its rate grows with the way that all parameters together went along a lasting gradient."""

    def step(self, closure: Any = None) -> Any:
        loss = self.evaluate(closure) if closure is not None else None
        with torch.no_grad():
            for group in self.param_groups:
                for p in (p for p in group["params"] if p.grad is not None):
                    start = self.state[p].setdefault("start", p.clone())
                    way = float((p.grad * (start - p)).sum())
                    self.state[p]["way"] = self.state[p].get("way", 0.0) + way
            ways = [state["way"] for state in self.state.values() if "way" in state]
            scale = 1e-3 + max(0.0, sum(ways))
            for group in self.param_groups:
                for p in (p for p in group["params"] if p.grad is not None):
                    self.update(group, p, p.grad, scale=scale)
        return loss


class Overflows(OneDistance):
    """Its weights soon are NaN, together and alone."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        state = self.state[parameter]
        state["steps"] = state.get("steps", 0) + 1
        late = state["steps"] > 10
        super().update(group, parameter, gradient, scale=float("nan") if late else scale)


PROGRAM = Step(), Freeze(LAST), Step(), Thaw(FIRST), Step(), Thaw(LAST), Step()
UNLIKE = (Group(FIRST, (("lr", 0.1),)), Group(LAST, (("lr", 0.01),)))


class RoundsAtRandom(Sound):
    """Draws for all its parameters, and then for all of them again, from torch's generator."""

    def step(self, closure: Any = None) -> Any:
        loss = self.evaluate(closure) if closure is not None else None
        with torch.no_grad():
            owned = [p for group in self.param_groups for p in group["params"]]
            for _ in range(2):
                for p in owned:
                    if p.grad is not None:
                        p.sub_(p.grad * torch.rand_like(p), alpha=0.1)
        return loss


def test_random_numbers_for_all_parameters_are_not_compared_with_those_for_each() -> None:
    verification = Verification(subjects(RoundsAtRandom)[0], "cpu")
    with fenced("cpu"):
        assert not verification.find_violations(case_of(*PROGRAM, mask=FIRST, extras=("alone",)))
    assert verification.divergence_counts["random-numbers-in-another-order"]


class CountsGradients(Sound):
    """Warms up by the number of gradients that its group has had."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        group["seen"] = group.get("seen", 0) + 1
        super().update(group, parameter, gradient, scale=group["seen"] / 10)


def test_a_count_that_is_another_alone_is_named() -> None:
    verification = Verification(subjects(CountsGradients)[0], "cpu")
    with fenced("cpu"):
        found = verification.find_violations(case_of(Step(), mask=FIRST, extras=("alone",)))
    (message,) = found.values()
    assert "an optimizer of its own (its seen is 2, and 1 alone) at event 0" in message


@pytest.mark.parametrize("optimizer", [SGD, Adam, NormOfEach])
def test_a_sound_optimizer_trains_each_parameter_as_alone(optimizer: type[Optimizer]) -> None:
    case = case_of(*PROGRAM, mask=FIRST, extras=("alone",)).replaced(groups=UNLIKE)
    outcome = outcome_of(case, optimizer)
    assert "trains-as-alone" in judged(outcome)
    seen = [record.observations for record in outcome.trial.records]
    assert all(each["a"].weights == each["alone"].weights for each in seen)


def test_one_parameter_by_itself_is_nothing_to_judge() -> None:
    one = Architecture(Input((2,)), (Linear(2, bias=False),))
    single = case_of(Step(), architecture=one, extras=("alone",))
    assert "trains-as-alone" not in judged(outcome_of(single))
    assert "trains-as-alone" not in judged(outcome_of(case_of(Step())))


def test_groups_of_other_rates_that_share_a_cache_are_shown_by_a_script(tmp_path: Path) -> None:
    case = case_of(Step(), extras=("alone",)).replaced(groups=UNLIKE)
    verification = Verification(subjects(CachesRateByDtype)[0], "cpu")
    with fenced("cpu"):
        verification.prepare()
        found = verification.find_violations(case)
        shown = verification.tallies["trains-as-alone"].shown
        assert shown is not None
        text = script(shown, verification.subject)
    assert [each.id for each in found] == ["trains-as-alone"]
    assert "unlike under an optimizer of its own" in shown.message
    assert "optimizer = EachAlone(" in text
    path = tmp_path / "script.py"
    path.write_text(text)
    assert run_here(path, "trains-as-alone").reproduced
    path.write_text(corrected(text))
    assert run_here(path, "trains-as-alone").said == "it exits 0"


class RefusesOne(Sound):
    """Can be built over one parameter, and cannot step so."""

    def step(self, closure: Any = None) -> Any:
        if sum(len(group["params"]) for group in self.param_groups) < 2:
            raise ValueError("one parameter is too few")
        return super().step(closure)


def test_an_optimizer_that_refuses_one_parameter_is_not_accused_of_it() -> None:
    outcome = outcome_of(case_of(*PROGRAM, mask=FIRST, extras=("alone",)), RefusesOne)
    assert outcome.trial.crash is None or outcome.trial.crash.role == "b"
    assert "trains-as-alone" not in judged(outcome)


def test_a_member_that_was_frozen_takes_no_count_of_another() -> None:
    case = case_of(Step(), Step(), Thaw(LAST), Step(), Step(), mask=LAST, extras=("alone",))
    verification = Verification(subjects(CountOfFirst)[0], "cpu")
    with fenced("cpu"):
        assert "trains-as-alone" in [each.id for each in verification.find_violations(case)]


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (GlobalNorm, "one parameter changes what another one does"),
        (ClipsLargeNorms, "one parameter changes what another one does"),
        (OneDistance, "one parameter changes what another one does"),
        (Overflows, "one parameter changes what another one does"),
        (RateByPosition, "one parameter changes what another one does"),
        (Stochastic, "one parameter changes what another one does"),
        (LBFGS, "does not belong to single parameters"),
        (SparseAdam, "sparse gradients"),
    ],
)
def test_an_optimizer_that_couples_parameters_by_design_is_not_judged_and_says_why(
    optimizer: type[Optimizer], reason: str
) -> None:
    verification = Verification(subjects(optimizer)[0], "cpu")
    with fenced("cpu"):
        verification.prepare()
        verification.find_violations(case_of(Step()))
    report = item_report(verification)
    assert reason in report.row.facts["not-as-alone"]
    (row,) = (each for each in report.row.invariants if each.id == "trains-as-alone")
    assert row.status == "not-applicable"


@pytest.mark.parametrize("variant", ["forloop", "foreach", "fused"])
@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_every_implementation_of_torch_is_judged(optimizer: type[Optimizer], variant: str) -> None:
    (subject,) = (each for each in subjects(optimizer) if each.variant == variant)
    with fenced("cpu"):
        assert probe(subject, "cpu").coupled is None


def test_the_optimizers_of_single_parameters_are_one_optimizer() -> None:
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = EachAlone(SGD, [{"params": [first, second], "lr": 0.5}], lr=1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
    for group in optimizer.param_groups:
        group["lr"] = 2.0
    first.grad = torch.ones(2)
    optimizer.step()
    optimizer.zero_grad()
    assert first.tolist() == [-1.0, -1.0]
    assert second.tolist() == [1.0, 1.0]
    assert first.grad is None
