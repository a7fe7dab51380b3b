"""Programs: what is frozen when, what each event does, and where approaches part and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.optim import LBFGS, SGD, Adam, Optimizer, Rprop

from frostproof.approaches.approach import Approaches
from frostproof.errors import CaseError
from frostproof.generation.cases import cases
from frostproof.invariants.registry import INVARIANTS
from frostproof.optimizers.discovery import subjects
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Extra, Group
from frostproof.spec.layers import (
    BatchNorm1d,
    Checkpointed,
    Embedding,
    Flatten,
    Linear,
    LoRALinear,
    ReLU,
    SpectralNormLinear,
    TiedLinear,
)
from frostproof.spec.program import (
    AddFrozen,
    AnyEvent,
    BackwardUnderNoGrad,
    Clip,
    Eval,
    Freeze,
    LoadWeights,
    SaveLoad,
    Schedule,
    SetLr,
    Step,
    Thaw,
    Train,
    ZeroGrad,
    frozen_at_events,
    mask_changes,
)
from frostproof.trial.lockstep import Outcome, run_trial
from frostproof.verification.item_report import item_report
from frostproof.verification.verification import Verification
from tests.helpers.broken_programs import Heavy
from tests.helpers.planted import BUGS
from tests.helpers.planted_rare import RARE_BUGS
from tests.helpers.protocols import Moded, Plain
from tests.helpers.search import search
from tests.helpers.suspicious import ClosureOnly, Stochastic

TWO = Architecture(Input((2,)), (Linear(2), Linear(1)))
SIGNED_ZERO = 0
"""A seed with which some gradient is -0.0."""
FIRST, LAST = ("0.weight", "0.bias"), ("1.weight", "1.bias")


def case_of(
    *program: AnyEvent,
    mask: tuple[str, ...] = (),
    architecture: Architecture = TWO,
    extras: tuple[Extra, ...] = (),
    **fields: Any,
) -> Case:
    names = tuple(parameter.name for parameter in architecture.parameters)
    case = Case(
        architecture,
        mask,
        (Group(names, (("lr", 0.1),)),),
        program,
        extras=extras,
        **{"batch": 2, **fields},
    )
    case.check()
    return case


def outcome_of(case: Case, optimizer: type[Optimizer] = Heavy) -> Outcome:
    """One trial on the CPU, which may violate nothing and raise nothing."""
    with fenced("cpu"):
        outcome = run_trial(case, subjects(optimizer)[0], "cpu", INVARIANTS, Approaches())
    assert not outcome.violated
    assert outcome.trial.crash is None
    return outcome


class WholeRate(Heavy):
    """Its learning rate is an integer until a scheduler changes it."""

    def __init__(self, params: Any, lr: float = 1) -> None:
        super().__init__(params, lr=1)


def judged(outcome: Outcome) -> set[str]:
    return {invariant.id for invariant in outcome.judged}


def test_masks_change_within_a_step_where_it_says_so() -> None:
    step = Step(after_forward=(Freeze(("a",)),), after_backward=(Clip(), Thaw(("b",))))
    forward, backward, after = frozen_at_events((step,), ("b",))[0]
    assert (set(forward), set(backward), set(after)) == ({"b"}, {"a", "b"}, {"a"})


def test_a_case_knows_the_course_of_what_is_frozen() -> None:
    case = case_of(Step(), Freeze(LAST), Thaw(FIRST), Step(), mask=FIRST)
    assert [each.at_step for each in case.mask_timeline] == [(0, 1), (0, 1, 2, 3), (2, 3), (2, 3)]
    assert [each.frozen_so_far for each in case.mask_timeline] == [(0, 1), (0, 1), (), ()]
    assert (case.frozen_midway, case.thawed) == ((2, 3), (0, 1))


def test_what_belongs_to_freezing_can_be_taken_out_and_events_keep_their_numbers() -> None:
    case = case_of(
        Freeze(FIRST),
        Step(drop="first", after_backward=(Freeze(LAST), Clip())),
        Thaw(FIRST),
        Step(),
    )
    control = case.control()
    assert len(control.program) == len(case.program)
    assert not control.mask
    assert not any(each.names for event in control.program for each in mask_changes(event))
    assert control.program[1] == Step(after_backward=(Clip(),))
    assert case.without(Thaw).program[2] == Thaw(())
    assert case.without(Freeze).program[:2] == (
        Freeze(()),
        Step(drop="first", after_backward=(Freeze(()), Clip())),
    )


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (Freeze(("7.weight",)), "names '7.weight'"),
        (Step(after_backward=(Thaw(("7.weight",)),)), "names '7.weight'"),
        (Step(closure=True, after_backward=(Freeze(FIRST),)), "set closure=False"),
        (Step(closure=True, amp="scaler"), "set closure=False"),
    ],
)
def test_events_that_do_not_fit_get_one_line(event: AnyEvent, says: str) -> None:
    with pytest.raises(CaseError, match=says):
        case_of(event)


EVERYTHING: tuple[AnyEvent, ...] = (
    Step(),
    Step(micro_batches=3, set_to_none=False),
    Step(closure=True, zeroed_by="model"),
    Step(after_backward=(Clip(), Clip("value"))),
    Step(amp="autocast"),
    Step(amp="scaler", after_backward=(Clip(),)),
    Step(amp="overflow"),
    Step(amp="scaler", drop="all"),
    Freeze(LAST),
    Step(),
    SaveLoad(),
    LoadWeights(),
    SetLr(),
    Schedule("OneCycleLR"),
    Step(),
    Eval(only_frozen=True),
    Step(),
    Train(),
    Thaw((*FIRST, *LAST)),
    Step(drop="first"),
    Step(),
    Freeze((*FIRST, *LAST)),
    Step(),
    Thaw((*FIRST, *LAST)),
    Eval(),
    Step(),
    Freeze(LAST),
    AddFrozen(LAST),
    Step(),
    ZeroGrad(),
    BackwardUnderNoGrad(),
    Step(),
)
"""Every event, everything frozen, nothing frozen, and back."""


@pytest.mark.parametrize("optimizer", [SGD, Adam, Heavy])
@pytest.mark.parametrize("mask", [(), FIRST, (*FIRST, *LAST)], ids=["nothing", "first", "all"])
def test_a_sound_optimizer_goes_through_every_event(
    optimizer: type[Optimizer], mask: tuple[str, ...]
) -> None:
    outcome = outcome_of(
        case_of(*EVERYTHING, mask=mask, extras=("cleared", "second", "again", "rebuilt")), optimizer
    )
    assert len(outcome.trial.records) == len(EVERYTHING)
    assert judged(outcome) >= {
        "freeze-midway-holds",
        "thaw-resumes",
        "checkpoint-resumes",
        "gradless-step-is-noop",
        "closure-is-honoured",
        "no-grad-backward-raises",
    }
    assert ("group-added-trains" in judged(outcome)) == (mask == FIRST)


@pytest.mark.parametrize("optimizer", [SGD, Adam, Heavy])
@pytest.mark.parametrize("frozen", [(), ("2.down",), ("2.down", "2.up")], ids=len)
def test_parameters_without_elements_go_through_every_event(
    optimizer: type[Optimizer], frozen: tuple[str, ...]
) -> None:
    adapted = Architecture(Input((2,)), (Linear(2), Linear(1), LoRALinear(2, rank=0)))
    extras: tuple[Extra, ...] = ("cleared", "second", "again", "rebuilt")
    program = (*EVERYTHING, Thaw(frozen), Step(), Step()) if frozen else EVERYTHING
    outcome = outcome_of(
        case_of(*program, mask=frozen, architecture=adapted, extras=extras), optimizer
    )
    assert len(outcome.trial.records) == len(program)
    assert "stale-grads-accumulate" in judged(outcome)


@pytest.mark.parametrize(
    ("program", "mask", "blamed"),
    [
        ((Step(), Freeze(FIRST), Step(), Thaw(FIRST), Step()), (), None),
        (
            (
                Thaw((*FIRST, *LAST)),
                Step(after_backward=(Freeze(FIRST, "zeros"),)),
                Step(after_backward=(Thaw(FIRST),)),
            ),
            (*FIRST, *LAST),
            "thaw-resumes",
        ),
    ],
    ids=["had a gradient", "added, frozen, thawed"],
)
def test_a_crash_is_blamed_on_an_added_group_only_where_no_freeze_midway_is_needed(
    program: tuple[AnyEvent, ...], mask: tuple[str, ...], blamed: str | None
) -> None:
    """SGD(fused=True) keeps no momentum buffer of a parameter that never had a gradient.

    It raises once other parameters of the group have one.
    """
    fused = next(subject for subject in subjects(SGD) if subject.variant == "fused")
    names = tuple(parameter.name for parameter in TWO.parameters)
    case = case_of(*program, mask=mask).replaced(
        groups=(Group(names, (("lr", 0.1), ("momentum", 0.9))),)
    )
    with fenced("cpu"):
        verification = Verification(fused, "cpu")
        verification.prepare()
        verification.judge(case)
    violated = {id for id, tally in verification.tallies.items() if tally.violated}
    assert violated == ({blamed} if blamed else set())


@pytest.mark.parametrize(
    ("cause", "pair", "case"),
    [
        (
            "frozen-parameter-has-gradient",
            ("a", "b"),
            case_of(Step(), Step(after_backward=(Freeze(LAST, "left"),)), Step()),
        ),
        (
            "thawed-within-step",
            ("a", "b"),
            case_of(Step(), Step(after_backward=(Thaw(FIRST),)), Step(), mask=FIRST),
        ),
        (
            "clipped-with-leftover-gradients",
            ("a", "b"),
            case_of(Step(after_backward=(Clip(over="all", limit=1e-3),)), Step(), mask=FIRST),
        ),
        (
            "reentrant-checkpoint-cut-off",
            ("a", "b"),
            case_of(
                Step(),
                mask=FIRST,
                architecture=Architecture(
                    Input((2,)), (Linear(2), Checkpointed((Linear(2),), reentrant=True), Linear(1))
                ),
            ),
        ),
        pytest.param(
            "reentrant-checkpoint-cut-off",
            ("a", "b"),
            case_of(
                Step(),
                Freeze(FIRST),
                Step(set_to_none=False),  # leaves zeros where backward then gives nothing
                architecture=Architecture(
                    Input((2,)), (Linear(2), Checkpointed((Linear(2),), reentrant=True))
                ),
            ),
            id="a reentrant checkpoint, gradients zeroed in place",
        ),
        (
            "scheduler-misses-late-group",
            ("a", "b"),
            case_of(
                Schedule("LambdaLR"),
                Step(),
                Schedule("LambdaLR"),
                Thaw(FIRST),
                Schedule("LambdaLR"),
                Step(),
                mask=FIRST,
            ),
        ),
        (
            "random-numbers-in-another-order",
            ("a", "b"),
            case_of(Thaw(FIRST), Step(), mask=FIRST),
        ),
        (
            "rebuilt-optimizer-lost-state",
            ("b", "rebuilt"),
            case_of(Step(), Freeze(FIRST), Step(), extras=("rebuilt",)),
        ),
        (
            "no-optimizer-calls-closure",
            ("a", "b"),
            case_of(
                Step(closure=True),
                Thaw(("0.weight",)),
                Step(closure=True),
                mask=("0.weight", "1.weight", "1.bias"),
                architecture=Architecture(Input((2,)), (Linear(2, bias=False), BatchNorm1d())),
            ),
        ),
        (
            "leftover-gradient-zeroed-in-place",
            ("a", "b"),
            case_of(
                Step(),
                Thaw(("2.weight",)),
                Step(set_to_none=False),
                mask=("2.weight",),
                architecture=Architecture(Input((2,)), (Linear(2), ReLU(), Linear(2))),
                batch=1,
                seed=SIGNED_ZERO,
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_approaches_part_for_a_cause_that_is_seen(
    cause: str, pair: tuple[str, str], case: Case
) -> None:
    others = {
        "no-optimizer-calls-closure": ClosureOnly,
        "random-numbers-in-another-order": Stochastic,
    }
    assert outcome_of(case, others.get(cause, Heavy)).trial.diverged == {pair: cause}


def test_a_scheduler_misses_a_late_group_with_a_whole_number_as_its_rate() -> None:
    case = case_of(Schedule("StepLR"), Thaw((*FIRST, *LAST)), Step(), mask=(*FIRST, *LAST))
    case = case.replaced(groups=(Group(case.groups[0].parameters),))
    trial = outcome_of(case, WholeRate).trial
    assert trial.diverged == {("a", "b"): "scheduler-misses-late-group"}


@pytest.mark.parametrize(
    ("invariant", "mask", "program"),
    [
        (
            "trainable-moves",
            ("0.weight",),
            (Step(), Step(), LoadWeights(), ZeroGrad(), Step()),
        ),
        (
            "thaw-resumes",
            ("0.weight", "0.bias"),
            (Thaw(("0.bias",)), Step(), LoadWeights(), ZeroGrad(), Step()),
        ),
    ],
)
def test_what_trained_before_weights_were_loaded_may_skip_the_step_after_that(
    invariant: str, mask: tuple[str, ...], program: tuple[AnyEvent, ...]
) -> None:
    """Rprop does, where the sign of every gradient has changed."""
    case = Case(
        Architecture(Input((67,)), (Linear(2),)),
        mask,
        (Group(("0.weight", "0.bias"), (("lr", 0.1),)),),
        program,
        batch=3,
    )
    with fenced("cpu"):
        outcome = run_trial(case, subjects(Rprop)[0], "cpu", INVARIANTS, Approaches())
    assert invariant not in {each.id for each in outcome.violated}
    assert invariant in judged(outcome)


class Centred(SGD):
    """Subtracts from the gradient of a matrix the mean of each row."""

    def step(self, closure: Any = None) -> Any:
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None and parameter.dim() > 1:
                parameter.grad.sub_(parameter.grad.mean(1, keepdim=True))
        return super().step(closure)


def test_gradients_that_are_clipped_to_one_value_may_cancel() -> None:
    """Every element of a row may be 0.1 then, of which nothing is left without their mean."""
    clips = Step(after_backward=(Clip(by="value"),))
    for seed in range(8):
        case = Case(
            Architecture(Input((2,)), (Linear(1, bias=False),)),
            (),
            (Group(("0.weight",), (("lr", 0.1),)),),
            (clips, clips),
            seed=seed,
        )
        with fenced("cpu"):
            outcome = run_trial(case, subjects(Centred)[0], "cpu", INVARIANTS, Approaches())
        assert not outcome.violated, seed


def test_a_known_violation_is_undone_in_b_too_where_gradients_are_left() -> None:
    """The fifth step pulls what was frozen, in A and in B; the script undoes both."""
    bug = next(each for each in RARE_BUGS if each.name == "PullsEveryFifth")
    case = case_of(Step(), Step(), Freeze(LAST), Step(), Step(), Step(), Step())
    muted = ("freeze-midway-holds", "gradless-step-is-noop")
    with fenced("cpu"):
        outcome = run_trial(case, bug.subject, "cpu", INVARIANTS, bug.approaches, muted=muted)
    assert outcome.trial.restored
    assert "trainable-updates-match" not in {each.id for each in outcome.violated}


class AllocatesFirst(SGD):
    """Allocates state before it looks for a gradient."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter].setdefault("average", torch.zeros_like(parameter))
        return super().step(closure)


def test_state_of_a_parameter_whose_only_step_was_skipped_costs_memory_alone() -> None:
    case = case_of(Step(amp="overflow"), Freeze(LAST), Step())
    with fenced("cpu"):
        outcome = run_trial(case, subjects(AllocatesFirst)[0], "cpu", INVARIANTS, Approaches())
    assert "freeze-midway-holds" not in {each.id for each in outcome.violated}
    assert "freeze-midway-holds" in judged(outcome)


def test_what_a_clipped_leftover_changes_in_any_optimizer_is_not_held_against_one() -> None:
    """The bug moves a frozen weight before, so that the clipped trainable gradients differ too.

    A script of this would fail for a second optimizer that is correct.
    """
    bug = next(each for each in BUGS if each.name == "SecondOptimizerSteps")
    case = case_of(
        Step(),
        Step(after_backward=(Clip(over="all", limit=1e-3),)),
        mask=FIRST,
        extras=("second",),
    )
    with fenced("cpu"):
        muted = ("frozen-weights-unchanged",)
        outcome = run_trial(case, bug.subject, "cpu", INVARIANTS, bug.approaches, muted=muted)
    assert "stale-grads-harmless" not in [each.id for each in outcome.violated]
    assert outcome.trial.diverged["b", "second"] == "clipped-with-leftover-gradients"


def test_a_freeze_after_the_forward_pass_that_drops_zeros_is_not_taken_for_backward() -> None:
    frozen = Step(set_to_none=False, after_forward=(Freeze(LAST),))
    assert "no-grad-allocated" in judged(outcome_of(case_of(Step(), frozen, Step())))


class IgnoresClosure(Heavy):
    def step(self, closure: Any = None) -> Any:
        return super().step()


@pytest.mark.parametrize("change", [Thaw(FIRST), Freeze(LAST)])
def test_an_optimizer_that_ignores_its_closure_is_not_accused_of_what_follows(
    change: Freeze | Thaw,
) -> None:
    case = case_of(Step(), change, Step(closure=True), mask=FIRST)
    with fenced("cpu"):
        outcome = run_trial(case, subjects(IgnoresClosure)[0], "cpu", INVARIANTS, Approaches())
    assert [each.id for each in outcome.violated] == ["closure-is-honoured"]
    assert outcome.trial.diverged == {("a", "b"): "closure-ignored"}


@pytest.mark.parametrize(
    "case",
    [
        case_of(Step(), Freeze(LAST, "left"), Step()),
        case_of(Step(), Step(after_backward=(Freeze(LAST),)), Step()),
        case_of(Step(), Thaw(FIRST), Step(), mask=FIRST),
        case_of(Step(after_backward=(Clip(over="all", limit=1e3),)), Step(), mask=FIRST),
        case_of(Step(after_backward=(Clip("value", over="all", limit=1e-3),)), Step(), mask=FIRST),
        case_of(Step(after_backward=(Clip(over="owned", limit=1e-3),)), Step(), mask=FIRST),
        case_of(
            Step(amp="scaler", after_backward=(Clip(over="owned", limit=1e-3),)), Step(), mask=FIRST
        ),
        case_of(
            Step(),
            mask=FIRST,
            architecture=Architecture(
                Input((2,)), (Linear(2), Checkpointed((Linear(2),), reentrant=False), Linear(1))
            ),
        ),
        case_of(Schedule("StepLR"), Step(), Freeze(LAST), Schedule("StepLR"), Step(), mask=FIRST),
        case_of(SetLr(), Thaw(FIRST), Step(), mask=FIRST),
        case_of(Freeze(FIRST), Step(), extras=("rebuilt",)),
    ],
)
def test_without_the_cause_they_agree_bit_for_bit(case: Case) -> None:
    outcome = outcome_of(case)
    assert not outcome.trial.diverged
    assert "gradients-pass-through" in judged(outcome)
    assert {"trainable-updates-match", "group-added-trains"} & judged(outcome)


@pytest.mark.parametrize(("optimizer", "moves"), [(Heavy, True), (Adam, True), (Rprop, False)])
def test_what_an_optimizer_does_with_zeros_for_a_gradient_is_a_fact(
    optimizer: type[Optimizer], moves: bool
) -> None:
    warm = case_of(Step(), Step(), Freeze(LAST, "left"), Step(set_to_none=False))
    assert outcome_of(warm, optimizer).trial.moved_on_zero_grad is moves
    assert (
        outcome_of(
            case_of(Step(), Freeze(LAST), Step(set_to_none=False)), optimizer
        ).trial.moved_on_zero_grad
        is None
    )


@pytest.mark.parametrize("optimizer", [LBFGS, SGD])
def test_the_fact_is_known_of_every_optimizer(optimizer: type[Optimizer]) -> None:
    verification = Verification(subjects(optimizer)[0], "cpu")
    with fenced("cpu"):
        verification.prepare()
    assert item_report(verification).row.facts["moves-on-zero-grad"] is (optimizer is LBFGS)


def test_the_fact_is_in_the_results() -> None:
    verification = Verification(subjects(Heavy)[0], "cpu")
    search(verification, seed=0)
    facts = item_report(verification).row.facts
    assert facts["moves-on-zero-grad"] is True
    assert set(facts["partings"]) >= {
        "frozen-parameter-has-gradient",
        "rebuilt-optimizer-lost-state",
    }


def test_statistics_of_a_frozen_layer_drift_in_train_mode_and_hold_in_eval() -> None:
    network = Architecture(
        Input((2,)), (Linear(2), BatchNorm1d(), SpectralNormLinear(1, legacy=False))
    )
    mask = tuple(parameter.name for parameter in network.parameters[2:])
    outcome = outcome_of(
        case_of(
            Step(), Eval(only_frozen=True), Step(), Train(), Step(), mask=mask, architecture=network
        )
    )
    start, *after = [
        outcome.trial.starts["a"].buffers,
        *(record.observations["a"].buffers for record in outcome.trial.records),
    ]
    changed = [left != right for left, right in zip([start, *after], after, strict=False)]
    assert changed == [True, False, False, False, True]
    assert "buffers-hold-in-eval" in judged(outcome)


def test_a_tied_parameter_is_one_parameter() -> None:
    network = Architecture(Input((2,)), (Linear(2), TiedLinear(2, of=0), Linear(1)))
    outcome = outcome_of(case_of(Step(), Step(), mask=("0.weight",), architecture=network))
    assert {"frozen-weights-unchanged", "trainable-updates-match"} <= judged(outcome)
    assert network.places[1].uses == (0, 2)


def test_a_table_that_its_forward_pass_rewrites_is_held_by_the_optimizer() -> None:
    network = Architecture(
        Input((2,), vocabulary=3), (Embedding(3, 2, max_norm=0.1), Flatten(), Linear(1))
    )
    outcome = outcome_of(case_of(Step(), Step(), mask=("0.weight",), architecture=network))
    seen = outcome.trial.records[0].observations["a"]
    assert outcome.trial.starts["a"].weights[0] != seen.weights[0]
    assert "frozen-weights-unchanged" in judged(outcome)


def test_an_optimizer_follows_the_mode_of_the_model() -> None:
    modes: list[str] = []

    class Switching(Heavy):
        def train(self) -> None:
            modes.append("train")

        def eval(self) -> None:
            modes.append("eval")

    with fenced("cpu"):
        run_trial(case_of(Step(), Eval(), Step()), subjects(Switching)[0], "cpu", (), Approaches())
    assert modes == [
        *["train"] * 2,
        *["eval"] * 2,
        *["train"] * 2,
    ]  # A and B are built, step, go to eval, step


class Unsavable(Heavy):
    def state_dict(self) -> dict[str, Any]:
        raise NotImplementedError


def test_what_an_optimizer_cannot_do_with_nothing_frozen_is_asked_of_it_no_more() -> None:
    verification = Verification(subjects(Unsavable)[0], "cpu")
    with fenced("cpu"):
        verification.prepare()
    assert verification.subject.unable == ("SaveLoad",)

    @given(st.data())
    def check(data: st.DataObject) -> None:
        assert not data.draw(verification.cases).has(SaveLoad)

    check()


@given(st.data())
def test_what_is_drawn_freezes_what_trains_and_thaws_what_is_frozen(data: st.DataObject) -> None:
    case = data.draw(cases(subjects(Heavy)[0]))
    frozen = set(case.mask)
    assert isinstance(case.program[-1], Step)
    for event in case.program:
        for each in mask_changes(event):
            assert each.names
            assert (
                frozen.isdisjoint(each.names)
                if isinstance(each, Freeze)
                else frozen.issuperset(each.names)
            )
            frozen = (
                frozen | set(each.names) if isinstance(each, Freeze) else frozen - set(each.names)
            )


def test_memory_that_is_read_before_it_is_written_shows() -> None:
    class Careless(Heavy):
        def update(
            self,
            group: dict[str, Any],
            parameter: torch.Tensor,
            gradient: torch.Tensor,
            scale: float = 1.0,
        ) -> None:
            super().update(group, parameter, gradient + 0 * torch.empty_like(gradient), scale)

    with fenced("cpu"):
        outcome = run_trial(
            case_of(Step(), extras=("again",)),
            subjects(Careless)[0],
            "cpu",
            INVARIANTS,
            Approaches(),
        )
    assert "repeats-itself" in {invariant.id for invariant in outcome.violated}


class _Rough(Plain):
    """Keeps its momentum in float32, whatever its parameters are."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        state = self.state[parameter]
        mean = state.setdefault("mean", torch.zeros_like(parameter, dtype=torch.float32))
        mean.lerp_(gradient.to(mean.dtype), 0.3)
        parameter.add_(mean.to(parameter.dtype), alpha=-group["lr"])


class _Around(Optimizer):
    """Another one does its work, and has the state."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        self.inner = [_Rough(params, lr)]
        super().__init__(self.inner[0].param_groups, {"lr": lr})

    def step(self, closure: Any = None) -> Any:
        return self.inner[0].step(closure)

    def state_dict(self) -> Any:
        return self.inner[0].state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.inner[0].load_state_dict(state)


@pytest.mark.parametrize("optimizer", [_Rough, _Around])
def test_state_that_torch_casts_when_it_loads_is_a_cause_inside_a_wrapper_too(
    optimizer: type[Optimizer],
) -> None:
    program = (Step(), Step(), SaveLoad(), Step())
    outcome = outcome_of(case_of(*program, dtype="float64"), optimizer)
    assert outcome.trial.diverged["a", "resumed"] == "state-cast-on-load"


class _KeepsSlowCopies(Plain):
    """Its slow copies are in an attribute, and not in its state."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        self.slow: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.copy_(self.slow.setdefault(p, p.clone()).lerp_(p, 0.5))
        return loss


def test_what_loading_a_checkpoint_does_not_restore_is_named() -> None:
    case = case_of(Step(), Schedule("StepLR"), Step(), SaveLoad(), Step())
    verification = Verification(subjects(_KeepsSlowCopies)[0], "cpu")
    with fenced("cpu"):
        found = verification.find_violations(case)
    said = "from its checkpoint of event 3 (loading does not restore its slow), differs"
    assert [said in message for message in found.values()] == [True]


def test_what_was_saved_in_eval_mode_is_resumed_in_it() -> None:
    """It would be compared with weights for training, which train() puts in their place."""
    case = case_of(Step(), Step(), Eval(), SaveLoad(), Step())
    verification = Verification(subjects(Moded)[0], "cpu")
    with fenced("cpu"):
        verification.prepare()
        assert not verification.find_violations(case)
    assert verification.tallies["checkpoint-resumes"].judged == 1
