"""A group that is added while its parameters are frozen, as gradual unfreezing may add it."""

from __future__ import annotations

from typing import Any

import pytest

from frostproof.errors import CaseError
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.targets import torch_optimizers
from frostproof.process.fence import fenced
from frostproof.spec.program import AddFrozen, Freeze, SaveLoad, Schedule, Step, Thaw
from frostproof.verification.verification import Verification
from tests.helpers.broken_programs import Heavy
from tests.trial.test_programs import FIRST, LAST, case_of, outcome_of

SGD_NAMES = {False: "torch.optim:SGD forloop", True: "torch.optim:SGD fused"}


def test_one_copy_gets_frozen_parameters_that_stay_frozen() -> None:
    program = Step(), AddFrozen(FIRST), Step(), Thaw(FIRST), Step(), Freeze(FIRST), Step()
    records = outcome_of(case_of(*program, mask=FIRST)).trial.records
    owned = [len(each.observations["gradual"].owned) for each in records]
    assert owned == [2, 4, 4, 4, 4, 4, 4]
    assert [len(each.observations["a"].owned) for each in records] == [4] * 7
    assert [len(each.observations["b"].owned) for each in records] == [2, 2, 2, 4, 4, 2, 2]
    flags = [each.observations["gradual"].flags[0] for each in records]
    assert flags == [False, False, False, True, True, False, False]


class RefusesFrozen(Heavy):
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        known = len(self.param_groups) > 1 and self.state
        if known and not all(p.requires_grad for p in self.param_groups[-1]["params"]):
            raise ValueError("a parameter that requires no grad")


def test_an_optimizer_that_refuses_a_frozen_group_breaks_the_adding_of_groups() -> None:
    verification = Verification(subjects(RefusesFrozen)[0], "cpu")
    with fenced("cpu"):
        found = verification.find_violations(case_of(Step(), AddFrozen(FIRST), mask=FIRST))
    assert [each.id for each in found] == ["group-added-trains"]


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_that_counts_nothing_is_not_said_to_count(fused: bool) -> None:
    """A scheduler and a fused kernel set attributes of it, which are no counts of steps."""
    (subject,) = (each for each in torch_optimizers() if each.name == SGD_NAMES[fused])
    verification = Verification(subject, "cpu")
    programs = [
        (Schedule(), Step(), Thaw(FIRST), Step(), SaveLoad(), Step()),
        (Step(), Freeze(LAST), Thaw(FIRST), Step(), Thaw(LAST), SaveLoad(), Step()),
    ]
    with fenced("cpu"):
        for program in programs:
            verification.find_violations(
                case_of(*program, mask=FIRST).replaced(extras=("rebuilt",))
            )
    assert not verification.divergence_counts["late-group-counts-differently"]


def test_a_name_that_the_network_lacks_gets_one_line() -> None:
    with pytest.raises(CaseError, match=r"AddFrozen.*names '7.weight'"):
        case_of(AddFrozen(("7.weight",)), mask=LAST)
