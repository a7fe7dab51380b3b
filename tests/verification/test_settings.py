"""Settings: a bug that only a setting shows is found there, by the invariant that it breaks."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW, Optimizer, SparseAdam

from frostproof.approaches.approach import Approaches
from frostproof.counterexamples.execution import Execution, reproduces
from frostproof.counterexamples.script import script, training
from frostproof.doors.pytest_plugin.suite import RECORDED_AUTOGRAD
from frostproof.errors import UnusableError, UsageError
from frostproof.invariants import ranks_agree
from frostproof.invariants.registry import BY_ID
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.targets import resolve_setting
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group, Role
from frostproof.spec.layers import (
    AvgPool2d,
    Checkpointed,
    Conv2d,
    Dropout,
    Embedding,
    Flatten,
    Linear,
    Sequential,
    Tanh,
)
from frostproof.spec.program import Freeze, SaveLoad, SetLr, Step, Thaw
from frostproof.spec.setting import EAGER, MORE_THAN_THE_LIMIT, Setting
from frostproof.spec.subject import Subject
from frostproof.trial.lockstep import run_trial
from frostproof.verification.item_report import item_report
from frostproof.verification.source_line import find_source_line
from frostproof.verification.verification import Verification
from tests.helpers import broken_settings, broken_shards, planted_settings
from tests.helpers.broken import DecaysEverything, ReadsMissingGradient, Sound

BUGS = [
    pytest.param(setting, optimizer, identity, id=f"{setting}-{optimizer.__name__}")
    for setting, bugs in planted_settings.BUGS.items()
    for optimizer, identity in bugs.items()
]
CORRECT = [
    pytest.param(setting, optimizer, id=f"{setting}-{optimizer.__name__}")
    for setting, correct in planted_settings.CORRECT.items()
    for optimizer in (*correct, SGD, AdamW)
]


NUMPY = find_spec("numpy") is not None
"""Whether ZeroRedundancyOptimizer can gather the states of all ranks."""


def one_of_each(optimizer: type[Optimizer], setting: str = "eager") -> Case:
    """A case that freezes at the start and midway, and thaws, with momentum and weight decay."""
    architecture = Architecture(Input((2,)), (Linear(3), Tanh(), Linear(2, bias=False)))
    names = tuple(parameter.name for parameter in architecture.parameters)
    decays = issubclass(optimizer, Sound)
    options = (("momentum", 0.9), ("weight_decay", 0.1)) if decays else (("lr", 0.1),)
    saves = NUMPY or setting != "zero"
    compiled = setting == "compiled"
    again = () if compiled else (Step(),)  # what is compiled once for each mask takes long
    program = (
        *(Step(), *again, Freeze(("2.weight",)), Step(), Thaw(("0.weight",)), Step()),
        *((SaveLoad(),) if saves else ()),
        *(Thaw(("2.weight",)), Step(), *again),
        *(Step(),) * (MORE_THAN_THE_LIMIT if compiled else 0),
    )
    return Case(
        architecture,
        mask=("0.weight",),
        groups=(Group(names, options),),
        program=program,
        batch=2,
        extras=("alone", *(("eager",) if compiled else ())),
        seed=3,
    )


DEALT_OUT = Case(
    Architecture(Input((2,)), (Linear(3), Tanh(), Linear(2), Linear(2))),
    mask=("0.weight",),
    groups=(
        Group(
            ("0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "3.bias"),
            (("momentum", 0.9), ("weight_decay", 0.1)),
        ),
    ),
    program=(Step(), Step()),
    batch=2,
)
"""The frozen parameter decides which others ZeroRedundancyOptimizer gives to the same rank."""


def of(optimizer: type[Optimizer], setting: str) -> Subject:
    return replace(subjects(optimizer)[0], setting=resolve_setting(setting))


def found(subject: Subject, case: Case) -> Verification:
    """A verification that has judged one case."""
    verification = Verification(subject, "cpu", strict=True)
    with fenced("cpu", subject.setting):
        verification.find_violations(case)
    return verification


def flagged(verification: Verification) -> list[str]:
    return [identity for identity, tally in verification.tallies.items() if tally.violated]


def ran(verification: Verification, identity: str, folder: Path) -> Execution:
    """What the script of a violation says in a process of its own."""
    shown = verification.tallies[identity].shown
    assert shown is not None
    path = folder / "counterexample.py"
    path.write_text(script(shown, verification.subject))
    module = verification.subject.target.partition(":")[0]
    return reproduces(path, identity, Path.cwd(), sys.path, module=module)


@pytest.mark.parametrize(("setting", "optimizer", "identity"), BUGS)
def test_a_bug_that_only_a_setting_shows_is_found_there(
    setting: str, optimizer: type[Optimizer], identity: str, tmp_path: Path
) -> None:
    case = one_of_each(optimizer, setting)
    if identity == "trainable-updates-match":
        case = DEALT_OUT
    assert not flagged(found(of(optimizer, "eager"), case))
    verification = found(of(optimizer, setting), case)
    assert identity in flagged(verification)
    execution = ran(verification, identity, tmp_path)
    assert execution.reproduced, execution.said


@pytest.mark.parametrize(
    ("setting", "optimizer", "identity", "line"),
    [
        ("ddp", broken_settings.DecaysOnOneRank, "frozen-weights-unchanged", "parameter.mul_("),
        ("ddp", ReadsMissingGradient, "gradless-step-is-noop", "self.update("),
        ("fsdp2", broken_shards.DecaysShards, "frozen-weights-unchanged", "local.mul_("),
        ("compiled", DecaysEverything, "frozen-weights-unchanged", "parameter.mul_("),
    ],
)
def test_the_line_at_fault_is_found_in_a_setting(
    setting: str, optimizer: type[Optimizer], identity: str, line: str
) -> None:
    verification = found(of(optimizer, setting), one_of_each(optimizer, setting))
    shown = verification.tallies[identity].shown
    assert shown is not None
    with fenced("cpu", verification.subject.setting):
        source = find_source_line(shown, verification.subject, verification.approaches)
    assert source is not None
    place, _, text = str(source).partition(": ")
    assert place.startswith("tests/helpers/broken")
    assert text.startswith(line)


@pytest.mark.parametrize(("setting", "optimizer"), CORRECT)
def test_a_correct_optimizer_is_not_flagged_in_a_setting(
    setting: str, optimizer: type[Optimizer]
) -> None:
    verification = found(of(optimizer, setting), one_of_each(optimizer, setting))
    assert not flagged(verification)
    assert verification.trials == 1
    assert not verification.rejected_cases
    resumes = NUMPY or setting != "zero"
    assert verification.tallies["checkpoint-resumes"].judged == resumes


def test_an_embedding_that_each_rank_rewrites_is_not_the_optimizers_fault() -> None:
    architecture = Architecture(
        Input((2,), vocabulary=3), (Embedding(3, 2, max_norm=0.5), Flatten(), Linear(2))
    )
    names = tuple(parameter.name for parameter in architecture.parameters)
    case = Case(
        architecture,
        mask=("0.weight",),
        groups=(Group(names, (("lr", 0.1), ("momentum", 0.9), ("weight_decay", 0.0))),),
        program=(Step(), Step()),
        batch=2,
    )
    verification = found(of(broken_settings.BroadcastsAll, "ddp"), case)
    assert not flagged(verification)
    explained = verification.tallies["frozen-weights-unchanged"].explained
    assert explained["ranks-rewrite-embedding"] == 1


def test_what_ddp_refuses_without_an_optimizer_is_not_the_optimizers_fault() -> None:
    # Its reducer waits for a sparse gradient that a freeze after the forward pass has taken away.
    case = Case(
        Architecture(Input((1,), vocabulary=2), (Embedding(2, 1, sparse=True),)),
        mask=(),
        groups=(Group(("0.weight",), (("lr", 0.1),)),),
        program=(Step(after_forward=(Freeze(("0.weight",)),)),),
        batch=1,
    )
    verification = found(of(SparseAdam, "ddp"), case)
    assert not flagged(verification)
    explained = [tally.explained for tally in verification.tallies.values()]
    assert sum(each.get("raises-without-optimizer", 0) for each in explained) == 1


def test_what_the_setting_does_without_an_optimizer_is_not_the_optimizers_fault() -> None:
    """A reentrant checkpoint cuts off what is in it, and does not where torch.compile runs it."""
    layers = (Linear(2), Checkpointed((Linear(3), Tanh()), reentrant=True))
    architecture = Architecture(Input((2,)), layers)
    names = tuple(parameter.name for parameter in architecture.parameters)
    groups = (Group(names, (("lr", 0.1),)),)
    case = Case(architecture, ("0.weight", "0.bias"), groups, (Step(), Step()), batch=2)
    verification = found(of(SGD, "compiled"), case)
    assert not flagged(verification)
    tally = verification.tallies["no-grad-backward-raises"]
    assert tally.explained == {"same-without-optimizer": 1}
    alone = found(RECORDED_AUTOGRAD.in_setting(resolve_setting("compiled")), case)
    assert flagged(alone) == ["no-grad-backward-raises"]
    assert "no-grad-backward-raises" in alone.subject.expected_failures


class RaisesBesideOthers(Sound):
    """Its step raises if it owns something frozen, and another optimizer was built after it."""

    built = 0

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        RaisesBesideOthers.built += 1
        self.number = RaisesBesideOthers.built

    def step(self, closure: Any = None) -> Any:
        owned = [p for group in self.param_groups for p in group["params"]]
        if self.number != RaisesBesideOthers.built and not all(p.requires_grad for p in owned):
            raise RuntimeError("there is another one")
        return super().step(closure)


def test_what_only_several_compiled_trainings_raise_is_not_the_optimizers_fault() -> None:
    case = one_of_each(SGD).replaced(program=(Step(), Step()), extras=())
    verification = found(of(RaisesBesideOthers, "compiled"), case)
    assert not flagged(verification)
    explained = [tally.explained for tally in verification.tallies.values()]
    assert sum(each.get("compiled-beside-others", 0) for each in explained) == 1


def test_the_model_and_the_step_are_compiled_for_each_mask() -> None:
    subject, case = of(SGD, "compiled"), one_of_each(SGD)
    with fenced("cpu", subject.setting):
        torch._dynamo.utils.counters.clear()
        run_trial(case, subject, "cpu", (), Approaches())
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs > len({mask.at_step for mask in case.mask_timeline})


def test_the_marks_of_a_closure_are_not_compiled_with_the_step_that_calls_it() -> None:
    case = one_of_each(SGD)
    program = (Step(closure=True), Step(closure=True, micro_batches=2))
    verification = found(of(SGD, "compiled"), case.replaced(program=program, extras=()))
    assert not flagged(verification)
    assert verification.tallies["closure-is-honoured"].judged == 1


def test_what_is_known_of_sgd_shows_beside_a_step_that_is_not_compiled() -> None:
    architecture = Architecture(Input((2,)), (Linear(3, bias=False), Linear(2, bias=False)))
    options = (("lr", 0.1), ("momentum", 0.9))
    case = Case(
        architecture,
        mask=("0.weight",),
        groups=(Group(("0.weight",), options), Group(("1.weight",), options)),
        program=(Step(), Step()),
        batch=2,
        extras=("eager",),
    )
    verification = found(of(SGD, "compiled"), case)
    known = verification.subject.expected_in["compiled"]
    assert "compiled-step-agrees" in flagged(verification)
    assert {*flagged(verification)} <= {*known}


def test_what_a_compiled_step_rounds_is_said_with_its_size() -> None:
    verification = found(
        of(broken_settings.RoundsWhenCompiled, "compiled"), one_of_each(Sound, "compiled")
    )
    assert verification.tallies["compiled-step-agrees"].judged
    assert item_report(verification).row.facts["rounding-ulp"] > 0


def test_a_compiled_step_that_amplifies_rounding_is_explained_and_counted() -> None:
    subject = of(broken_settings.AmplifiesWhatItRounds, "compiled")
    verification = found(subject, one_of_each(Sound, "compiled"))
    tally = verification.tallies["compiled-step-agrees"]
    assert (tally.violated, tally.explained) == (0, {"amplifies-rounding": 1})


def test_a_step_that_settles_late_is_not_called_compiled_anew() -> None:
    subject = of(broken_settings.ActsAtEachFourthStep, "compiled")
    program = (Step(),) * MORE_THAN_THE_LIMIT
    verification = found(subject, one_of_each(SGD).replaced(program=program, extras=()))
    assert not flagged(verification)
    assert verification.tallies["compiled-step-settles"].judged == 1


def test_steps_that_are_not_alike_may_each_be_compiled() -> None:
    rates = [event for factor in (0.5, 0.4, 0.3, 0.2) for event in (SetLr(factor), Step())]
    program = (Step(), *rates, Thaw(("0.weight",)), *[Step()] * 8)
    case = one_of_each(SGD).replaced(program=program, extras=())
    verification = found(of(SGD, "compiled"), case)
    assert not flagged(verification)
    assert verification.tallies["compiled-step-settles"].judged == 0


def test_a_limit_of_recompilations_that_a_setting_sets_is_put_back() -> None:
    config = torch._dynamo.config
    before = config.recompile_limit, config.fail_on_recompile_limit_hit
    tight = replace(
        resolve_setting("compiled"),
        before=(
            "torch._dynamo.reset()",
            "torch._dynamo.config.recompile_limit = 1",
            "torch._dynamo.config.fail_on_recompile_limit_hit = True",
        ),
    )
    subject = replace(subjects(SGD)[0], setting=tight)
    with fenced("cpu", tight):
        trial = run_trial(one_of_each(SGD), subject, "cpu", (), Approaches()).trial
    assert trial.crash is not None
    assert type(trial.crash.error).__name__ == "FailOnRecompileLimitHit"
    assert (config.recompile_limit, config.fail_on_recompile_limit_hit) == before


class CountsAsAttribute(Sound):
    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self.calls = 0

    def after(self) -> None:
        self.calls += 1


class CountsFromItsFirstStep(Sound):
    def after(self) -> None:
        self.calls = getattr(self, "calls", 0) + 1


class HasNoNumberYet(Sound):
    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self.best = float("nan")


@pytest.mark.parametrize("optimizer", [CountsAsAttribute, CountsFromItsFirstStep])
def test_an_optimizer_of_which_torch_compile_forgets_a_number_is_not_judged_there(
    optimizer: type[Sound],
) -> None:
    subject = of(optimizer, "compiled")
    with fenced("cpu", subject.setting), pytest.raises(UnusableError, match="forgets its calls"):
        Verification(subject, "cpu").prepare()
    with fenced("cpu", EAGER):
        Verification(of(optimizer, "eager"), "cpu").prepare()


def test_a_nan_that_stays_is_not_forgotten() -> None:
    subject = of(HasNoNumberYet, "compiled")
    with fenced("cpu", subject.setting):
        Verification(subject, "cpu").prepare()


def test_what_a_setting_cannot_judge_is_left_out_with_the_reason() -> None:
    subject = of(SGD, "compiled")
    verification = Verification(subject, "cpu")
    with fenced("cpu", subject.setting):
        verification.prepare()
    assert "scaler" in verification.subject.unable
    for identity, reason in subject.setting.not_judged.items():
        assert identity in BY_ID
        assert reason
        assert identity not in verification.tallies


def test_a_setting_is_judged_on_releases_of_torch_that_it_works_with() -> None:
    old = Setting("old", "as it was", needs_torch={"<2.0": "what it needs is gone"})
    verification = Verification(replace(subjects(SGD)[0], setting=old), "cpu")
    with pytest.raises(UnusableError, match=r"^old needs torch <2\.0: what it needs is gone$"):
        verification.prepare()
    assert [*resolve_setting("compiled").needs_torch] == [">=2.12"]


def test_a_setting_of_the_users_own_is_found_by_its_place() -> None:
    own = resolve_setting("tests.verification.test_settings:WARM")
    assert own.model == WARM.model
    assert replace(subjects(SGD)[0], setting=own).label == "forloop+" + own.name
    with pytest.raises(UsageError, match="Did you mean compiled"):
        resolve_setting("compiler")
    with pytest.raises(UsageError, match="name a frostproof"):
        resolve_setting("tests.verification.test_settings:BUGS")
    with pytest.raises(UsageError, match="unknown setting"):
        resolve_setting("tests.verification.test_settings:COLD")


WARM = Setting(
    "warm", "a forward pass before the training", model="(model, model.eval(), model.train())[0]"
)


def test_eager_prints_and_compiles_nothing_of_a_setting() -> None:
    verification = found(of(broken_settings.DecaysWhenCompiled, "eager"), one_of_each(Sound))
    assert verification.subject.label == "default"
    assert verification.subject.setting is EAGER


@pytest.mark.parametrize(
    ("setting", "role"),
    [
        *(("ddp", "a"), ("ddp", "resumed")),
        *(("fsdp2", "b"), ("fsdp2", "resumed")),
        *(("zero", "gradual"), ("zero", "resumed")),
    ],
)
def test_a_script_trains_each_rank_bit_for_bit_as_the_trial_does(
    setting: str, role: Role, tmp_path: Path
) -> None:
    subject, case = of(AdamW, setting), one_of_each(AdamW, setting)
    if role == "resumed" and not case.has(SaveLoad):
        pytest.skip("ZeroRedundancyOptimizer gathers states by NumPy")
    with fenced("cpu", subject.setting):
        last = run_trial(case, subject, "cpu", (), Approaches()).trial.records[-1]
    text = training(case, subject, role)
    work, _, start = text.partition('\n\n\nif __name__ == "__main__":')
    end = (
        "    from frostproof.training.bits import bits_of",
        "    from pathlib import Path",
        "    weights = bits_of(model.parameters())",
        f'    Path({str(tmp_path)!r}, f"{{rank}}").write_bytes(b"".join(weights))',
    )
    path = tmp_path / "script.py"
    path.write_text("\n".join((work, *end)) + '\n\n\nif __name__ == "__main__":' + start)
    said = reproduces(path, "", Path.cwd(), sys.path).said
    assert said == "it exits 0", text
    expected = [each[role].weights for each in (last.observations, *last.others)]
    for rank, weights in enumerate(expected):
        assert (tmp_path / str(rank)).read_bytes() == b"".join(weights)


def test_each_rank_gets_back_what_a_known_violation_moved_there() -> None:
    """With fsdp2 the ranks hold unlike shards, of unlike sizes."""
    case = one_of_each(DecaysEverything, "fsdp2")
    verification = Verification(of(DecaysEverything, "fsdp2"), "cpu")
    known = ("frozen-weights-unchanged", "gradless-step-is-noop", "freeze-midway-holds")
    muted = (*known, "no-grad-backward-raises", "thaw-resumes", "trains-as-alone")
    given = case, verification.subject, "cpu", verification.invariants, Approaches()
    outcome = run_trial(*given, muted=muted)
    assert outcome.trial.restored
    assert outcome.trial.crash is None
    assert {each.id for each in outcome.violated} <= {*muted}


def test_a_rank_without_a_share_of_a_parameter_gets_back_the_others() -> None:
    architecture = Architecture(Input((2,)), (Linear(1), Tanh(), Linear(2)))
    names = tuple(parameter.name for parameter in architecture.parameters)
    case = Case(architecture, ("0.bias", "2.bias"), (Group(names, ()),), (Step(), Step()), batch=2)
    subject = of(broken_shards.DecaysShards, "fsdp2")
    fit = Verification(subject, "cpu").invariants
    muted = [invariant.id for invariant in fit]
    with fenced("cpu", subject.setting):
        outcome = run_trial(case, subject, "cpu", fit, Approaches(), muted=muted)
    assert "frozen-weights-unchanged" in [each.id for each in outcome.violated]
    assert outcome.trial.restored


def test_a_nan_is_like_another_on_every_rank() -> None:
    """In the sum with what an overflow left behind, the processor chooses the NaN's payload."""
    layers = (AvgPool2d(), Sequential((Conv2d(2, 3, stride=2), Dropout(), Conv2d(3, 3))))
    architecture = Architecture(Input((2, 4, 4)), layers)
    names = tuple(parameter.name for parameter in architecture.parameters)
    case = Case(
        architecture,
        mask=names[:-1],
        groups=(Group(names, (("lr", 0.5), ("momentum", 0.9))),),
        program=(Step(), Step(), Step(amp="overflow")),
        dtype="bfloat16",
        batch=3,
        extras=("cleared",),
        seed=598,
    )
    subject = replace(subjects(broken_shards.StepsShards)[0], setting=resolve_setting("fsdp2"))
    verification = Verification(subject, "cpu", strict=True)
    with fenced("cpu"):
        verification.find_violations(case)
    assert not flagged(verification)
    assert verification.tallies["stale-grads-accumulate"].judged


def test_a_group_of_zero_that_lacks_defaults_is_not_taken_for_a_count() -> None:
    case = one_of_each(torch.optim.Adamax, "zero").replaced(
        program=(Thaw(("0.weight",)), Step(), Step()), extras=()
    )
    subject = replace(subjects(torch.optim.Adamax)[0], setting=resolve_setting("zero"))
    with fenced("cpu"):
        trial = run_trial(case, subject, "cpu", (), Approaches()).trial
    assert "late-group-counts-differently" not in trial.diverged.values()


def test_what_is_known_of_one_setting_is_expected_there_alone() -> None:
    subject = subjects(torch.optim.Adagrad)[0]
    fails_in = [
        name
        for name in ("eager", "ddp", "zero")
        if "checkpoint-resumes" in subject.in_setting(resolve_setting(name)).expected_failures
    ]
    assert fails_in == ["zero"]
    with pytest.raises(UsageError, match="no-such-invariant"):
        subjects(SGD, expected_in={"ddp": {"no-such-invariant": "it is not there"}})


def test_ranks_that_have_one_batch_are_not_said_to_agree() -> None:
    case = one_of_each(Sound, "ddp").replaced(program=(Step(),))
    subject = of(Sound, "ddp")
    with fenced("cpu", subject.setting):
        trial = run_trial(case, subject, "cpu", (), Approaches()).trial
    (record,) = trial.records
    assert [*ranks_agree.judge(trial, record)]
    for other in record.others:
        for role, observed in other.items():
            observed.losses = record.observations[role].losses
    assert not [*ranks_agree.judge(trial, record)]
