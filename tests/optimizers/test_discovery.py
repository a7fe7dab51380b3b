"""Discovery finds how an optimizer is used: right use is never flagged, and leaks are."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from frostproof.errors import UnusableError, UsageError
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.probe import DEFAULTS_ALONE, GUESSED, REBUILT, probe
from frostproof.optimizers.targets import exists_on
from frostproof.process.fence import fenced
from frostproof.spec.subject import Subject, given_arguments
from frostproof.verification.verification import Verification
from tests.helpers.kinds import (
    USES,
    AsksClosure,
    Between,
    ByKeyword,
    CallsBackward,
    ListsDecays,
    OfModel,
    RefusesEmpty,
    Swapped,
)
from tests.helpers.protocols import (
    Fused,
    Keyed,
    Moded,
    Named,
    OneDtype,
    OnlyCapturable,
    Plain,
    Sam,
    SecondOrder,
    TwoLists,
    WarmsUp,
    World,
    Wrapping,
)
from tests.helpers.search import flagged, search
from tests.helpers.suspicious import CountsInGroup


def probed(optimizer: Any) -> Subject:
    with fenced("cpu"):
        return probe(subjects(optimizer)[0], "cpu")


@pytest.mark.parametrize("optimizer", USES, ids=lambda optimizer: optimizer.__name__)
def test_discovery_finds_how_it_is_used(optimizer: type[Optimizer]) -> None:
    found = probed(optimizer)
    expected = USES[optimizer]
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize("optimizer", USES, ids=lambda optimizer: optimizer.__name__)
def test_what_is_used_in_its_own_way_is_not_flagged(optimizer: type[Optimizer]) -> None:
    verification = Verification(subjects(optimizer)[0], "cpu")
    search(verification, seed=1, examples=30)
    assert not flagged(verification)
    assert verification.trials > 15


class PassesOn(SGD):
    """Takes the arguments of its base class, and gives it one of them itself."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, foreach=False, nesterov=False, **options)


class TakesAnything(Optimizer):
    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, {"lr": 0.1, **options})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=group["lr"])


class Warming(torch.optim.SGD):
    def __init__(self, params: Any, warmup_steps: int, lr: float = 0.1) -> None:
        super().__init__(params, lr)


def test_arguments_that_a_class_passes_on_are_drawn() -> None:
    (found,) = subjects(PassesOn)
    space: Any = probed(PassesOn).space
    assert found.variant == "default"
    names = {name for choice in space for options in choice for name, _ in options}
    assert {"lr", "momentum", "weight_decay"} <= names
    assert "nesterov" not in names


class Switched(Plain):
    """It has switches, one of which raises, and one of which makes it begin slowly."""

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        leaky: bool = False,
        needs_gpu: bool = False,
        warm: bool = False,
        fused: bool = False,
    ) -> None:
        if needs_gpu:
            raise RuntimeError("no GPU")
        super().__init__(params, lr)
        self.leaky, self.warm, self.steps = leaky, warm, 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        for group in self.param_groups:
            for parameter in group["params"] if self.leaky else ():
                parameter.mul_(1 - 0.1 * group["lr"])
        return super().step(closure) if self.steps > 2 or not self.warm else None


def test_a_bug_behind_a_switch_is_found() -> None:
    """An unknown switch is drawn, if it works, and one that selects an implementation is not."""
    found = probed(Switched)
    space: Any = found.space
    drawn = {name: [value for ((_, value),) in each] for each in space for ((name, _), *_) in each}
    assert drawn.pop("lr")
    assert drawn == {"leaky": [False, True]}
    assert found.patience == 1
    verification = Verification(subjects(Switched)[0], "cpu")
    search(verification, 0, "frozen-weights-unchanged")
    shown = verification.tallies["frozen-weights-unchanged"].case
    assert shown is not None
    assert dict(shown.groups[0].options)["leaky"] is True

    from frostproof.verification.item_report import item_report

    rows = {each.id: each for each in item_report(verification).row.invariants}
    message = rows["frozen-weights-unchanged"].message
    assert "; with leaky=True, which is not the default" in str(message)


def test_an_optimizer_of_which_only_defaults_are_tried_is_told() -> None:
    assert probed(TakesAnything).not_tried == (DEFAULTS_ALONE,)
    assert not probed(PassesOn).not_tried


def test_a_guess_is_told() -> None:
    (why,) = probed(Warming).not_tried
    assert why == GUESSED.format("warmup_steps=100")


def leaky(optimizer: type[Any]) -> type[Any]:
    """The same optimizer, which also decays all its parameters at each step or backward pass."""

    class Leaky(optimizer):  # type: ignore[misc]
        def leak(self) -> None:
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.mul_(0.9)

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            loss = super().step(closure)
            self.leak()
            return loss

        def fused_backward(self, loss: Tensor, lr: float) -> None:
            super().fused_backward(loss, lr)
            self.leak()

    if not hasattr(optimizer, "fused_backward"):
        del Leaky.fused_backward
    return Leaky


@pytest.mark.parametrize(
    "optimizer",
    [
        *(Sam, SecondOrder, Fused, Named, Keyed, WarmsUp, Moded, OneDtype, TwoLists, World),
        *(ByKeyword, AsksClosure, CallsBackward),
    ],
    ids=lambda optimizer: optimizer.__name__,
)
def test_a_leak_is_found_however_it_is_used(optimizer: type[Optimizer]) -> None:
    verification = Verification(subjects(leaky(optimizer))[0], "cpu")
    search(verification, 1, "frozen-weights-unchanged")
    assert verification.tallies["frozen-weights-unchanged"].violated


def test_torch_keeps_its_variants() -> None:
    usual = ("forloop", "foreach", "capturable", "differentiable")
    fused = ("forloop", "foreach", "fused", "capturable", "differentiable")
    expected = {
        "ASGD": usual,
        "Adadelta": usual,
        "Adafactor": ("forloop", "foreach"),
        "Adagrad": ("forloop", "foreach", "fused", "differentiable"),
        "Adam": fused,
        "AdamW": fused,
        "Adamax": usual,
        "LBFGS": ("default", "strong_wolfe"),
        "Muon": ("default",),
        "NAdam": usual,
        "RAdam": usual,
        "RMSprop": usual,
        "Rprop": usual,
        "SGD": ("forloop", "foreach", "fused", "differentiable"),
        "SparseAdam": ("default",),
    }
    assert {
        name: tuple(each.variant for each in subjects(getattr(torch.optim, name)))
        for name in expected
    } == expected


@pytest.mark.parametrize(
    ("argument", "variants"),
    [
        ("capturable", ["default", "capturable"]),
        ("fused", ["default", "fused"]),
        ("differentiable", ["default", "differentiable"]),
    ],
)
def test_there_is_always_a_plain_variant(argument: str, variants: list[str]) -> None:
    class Switched(Plain):
        __signature__ = signature(OnlyCapturable).replace(
            parameters=[
                Parameter("params", Parameter.POSITIONAL_OR_KEYWORD),
                Parameter(argument, Parameter.KEYWORD_ONLY, default=False),
            ]
        )

    found = subjects(Switched)
    assert [each.variant for each in found] == variants
    assert [dict(each.arguments) for each in found] == [{}, {argument: True}]
    assert exists_on(found[0], "cpu")
    assert exists_on(found[0], "cuda")


def test_an_implementation_that_is_not_chosen_exists_everywhere() -> None:
    assert exists_on(Subject("mylib:Plain", Plain, arguments={"capturable": False}), "cpu")
    assert not exists_on(Subject("mylib:Plain", Plain, arguments={"capturable": True}), "cpu")


def test_another_line_search_makes_no_variants() -> None:
    class Searches(Plain):
        def __init__(self, params: Any, lr: float = 0.1, line_search_fn: str = "armijo") -> None:
            if line_search_fn not in ("armijo", "goldstein"):
                raise ValueError("there are armijo and goldstein")
            super().__init__(params, lr)

    (found,) = subjects(Searches)
    assert (found.variant, found.arguments) == ("default", {})
    assert probed(Searches).closure == "optional"


def test_numbers_are_given_where_nothing_else_works() -> None:
    class DoesWithout(Plain):
        def __init__(self, params: Any, lr: float = 0.1, total_steps: int | None = None) -> None:
            super().__init__(params, lr)

    class NeedsMore(Plain):
        def __init__(self, params: Any, lr: float = 0.1, total_steps: int | None = None) -> None:
            super().__init__(params, lr)
            if total_steps is None:
                raise ValueError("how many steps?")
            if any("use_muon" not in group for group in self.param_groups):
                raise ValueError("use_muon must be set")

    class Asks(Plain):
        def __init__(self, params: Any, epochs: int, steps_per_epoch: int) -> None:
            super().__init__(params, 10 / (epochs * steps_per_epoch))

    assert probed(DoesWithout).arguments == {}
    assert probed(NeedsMore).arguments == {"total_steps": 100}
    assert probed(NeedsMore).keys is not None
    assert probed(Asks).arguments == {"epochs": 10, "steps_per_epoch": 10}


def test_two_lists_are_told_by_their_names() -> None:
    class Optional(Plain):
        def __init__(self, params: Any, other_params: Any = None) -> None:
            super().__init__(params)

    class Teaches(Plain):
        def __init__(self, params: Any, teacher_params: Any) -> None:
            super().__init__(params)

    assert (
        subjects(TwoLists, takes="parameters", arguments={"adamw_params": []})[0].takes
        == "parameters"
    )
    assert subjects(Optional)[0].takes == "parameters"
    with pytest.raises(UnusableError, match="moves nothing of one of its two lists"):
        probed(Teaches)
    with pytest.raises(UsageError, match="give groups=False and per_parameter=False"):
        Subject("mylib:TwoLists", TwoLists, takes="two-lists")


@pytest.mark.parametrize("optimizer", [ByKeyword, Swapped, Between], ids=lambda each: each.__name__)
def test_two_lists_are_given_by_name_wherever_they_stand(optimizer: type[Optimizer]) -> None:
    found = probed(optimizer)
    assert found.takes == "two-lists"
    assert found.lists[:1] == ("muon_params",)
    assert found.space  # what stands beside the lists is drawn
    stated = Subject(
        "mylib:Lists",
        optimizer,
        takes="two-lists",
        lists=found.lists,
        groups=False,
        per_parameter=False,
    )
    with fenced("cpu"):
        assert probe(stated, "cpu").parameters == "any"
    with pytest.raises(UsageError, match="give two names, and takes='two-lists'"):
        Subject("mylib:Lists", optimizer, lists=found.lists)


def test_an_optimizer_that_refuses_an_empty_list_is_not_accused_of_it() -> None:
    verification = Verification(subjects(RefusesEmpty)[0], "cpu")
    search(verification, seed=1)
    assert not flagged(verification)
    assert verification.rejected_cases
    assert verification.trials > 20


def test_a_second_list_that_is_something_else_is_left_out() -> None:
    class Options(Plain):
        def __init__(self, muon_params: Any, adamw_params: dict[str, Any] | None = None) -> None:
            self.options = adamw_params or {}
            super().__init__(muon_params, **self.options)

    assert probed(Options).takes == "parameters"


@pytest.mark.parametrize("argument", ["optim", "inner", "network"])
def test_what_is_wrapped_is_found_under_any_name(argument: str) -> None:
    built = Wrapping if argument != "network" else OfModel

    class Renamed(built):  # type: ignore[misc,valid-type]
        def __init__(self, first: Any) -> None:
            super().__init__(first)
            setattr(self, argument, first)

    first = Parameter(argument, Parameter.POSITIONAL_OR_KEYWORD)
    Renamed.__signature__ = signature(Renamed).replace(parameters=[first])
    assert probed(Renamed).takes == ("model" if argument == "network" else "optimizer")


def test_groups_that_keep_count_are_no_violation() -> None:
    verification = Verification(subjects(CountsInGroup)[0], "cpu")
    for seed in range(3):
        search(verification, seed, examples=40)
    assert not flagged(verification)
    assert verification.divergence_counts["late-group-counts-differently"]


def test_the_order_is_named_only_where_it_is_the_cause() -> None:
    class TwoBugs(Plain):
        """Each place has a rate of its own, and what is added later never trains."""

        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, lr)
            self.known = {*self.owned}

        @torch.no_grad()
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            for group in self.param_groups:
                for place, parameter in enumerate(group["params"]):
                    if parameter.grad is not None and parameter in self.known:
                        parameter.add_(parameter.grad, alpha=-0.1 * (place + 1))
            return loss

    from frostproof.verification.item_report import ORDER_HINT, item_report

    verification = Verification(subjects(TwoBugs)[0], "cpu")
    search(verification, seed=1)
    said = {row.id: row.message or "" for row in item_report(verification).row.invariants}
    assert ORDER_HINT in said["trainable-updates-match"]
    assert "does not train" in said["thaw-resumes"]
    assert ORDER_HINT not in said["thaw-resumes"]
    assert "train unlike each other" in said["group-added-trains"]
    assert ORDER_HINT not in said["group-added-trains"]


def test_dependence_on_order_is_told_apart() -> None:
    class ByPlace(Plain):
        @torch.no_grad()
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            loss = super().step(closure)
            for group in self.param_groups:
                for place, parameter in enumerate(group["params"]):
                    if parameter.grad is not None:
                        parameter.add_(parameter.grad, alpha=-0.1 * place)
            return loss

    from frostproof.verification.item_report import item_report

    verification = Verification(subjects(ByPlace)[0], "cpu")
    search(verification, 1, "trainable-updates-match")
    row = item_report(verification).row
    assert row.facts["depends-on-order"] is True
    assert any(
        "depend on the order" in (each.message or "")
        for each in row.invariants
        if each.status == "violated"
    )

    declared = Verification(
        subjects(ByPlace, positional="each place has a rate of its own")[0], "cpu"
    )
    search(declared, seed=1, examples=40)
    assert not flagged(declared)


def test_what_counts_frozen_members_is_a_bug_of_freezing() -> None:
    class ByCount(Plain):
        """Frozen members make the steps of the others smaller, in whatever place they are."""

        @torch.no_grad()
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad /= len(group["params"])
            return super().step(closure)

    from frostproof.verification.item_report import ORDER_HINT, item_report

    verification = Verification(subjects(ByCount)[0], "cpu")
    search(verification, 0, "trainable-updates-match")
    rows = {row.id: row for row in item_report(verification).row.invariants}
    row = rows["trainable-updates-match"]
    assert (row.status, row.violation_class) == ("violated", "freezing")
    assert ORDER_HINT not in (row.message or "")


def test_groups_that_cannot_state_their_options_are_not_tried() -> None:
    verification = Verification(subjects(ListsDecays)[0], "cpu")
    search(verification, seed=0)
    assert not flagged(verification)
    assert not verification.subject.groups
    (why,) = verification.subject.not_tried
    assert why.startswith("groups that state their options fail with nothing frozen: it cannot ")
    assert "len()" in why


def test_a_class_is_named_by_the_outermost_package_that_has_it() -> None:
    assert subjects(torch.optim.SGD)[0].target == "torch.optim:SGD"
    assert subjects(CountsInGroup)[0].target == f"{CountsInGroup.__module__}:CountsInGroup"


def test_a_switch_beside_which_no_rate_may_be_given_costs_no_verdict() -> None:
    class Relative(Plain):
        def __init__(
            self,
            params: Any,
            lr: float | None = None,
            relative_step: bool = True,
            flag: bool = False,
        ) -> None:
            if relative_step and lr is not None:
                raise ValueError("give lr or relative_step")
            super().__init__(params, lr or 0.1)

    space: Any = probed(Relative).space
    assert [name for ((name, _), *_), *_ in space] == ["relative_step", "flag"]


class KeepsItsList(Plain):
    """It caches what trains at its first step, so that it does not let go of it."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if not hasattr(self, "trained"):
            self.trained = [p for p in self.owned if p.grad is not None]
        for parameter in self.trained:
            if parameter.grad is not None:
                self.state[parameter]["steps"] = self.state[parameter].get("steps", 0) + 1
            parameter.mul_(0.99)
        return super().step(closure)


def test_what_was_stated_is_left_as_it_is() -> None:
    with fenced("cpu"):
        found = probe(subjects(KeepsItsList)[0], "cpu")
        stated = probe(subjects(KeepsItsList, per_parameter=True)[0], "cpu")
        patient = probe(subjects(Plain, patience=7)[0], "cpu")
    assert (found.per_parameter, stated.per_parameter) == (False, True)
    assert REBUILT in found.not_tried
    assert not stated.not_tried
    assert patient.patience == 7
    with fenced("cpu"), pytest.raises(UnusableError):
        probe(subjects(OfModel, takes="parameters")[0], "cpu")


class Chooses(Plain):
    def __init__(
        self, params: Any, lr: float = 0.1, kind: str = "plain", flag: bool = True
    ) -> None:
        if kind not in ("plain", "fast"):
            raise ValueError(f"no {kind}")
        super().__init__(params, lr)


def test_a_stated_argument_is_no_guess_and_a_string_is_told_from_a_switch() -> None:
    with fenced("cpu"):
        found = probe(subjects(Chooses, arguments={"kind": "fast", "flag": "False"})[0], "cpu")
    assert not found.not_tried
    assert given_arguments(found) == "kind='fast', flag='False'"


def test_what_a_stated_space_has_that_does_not_work_is_told() -> None:
    space = ((("lr", 0.1),),), ((("kind", "plain"),), (("kind", "slow"),))
    with fenced("cpu"):
        found = probe(subjects(Chooses, space=space)[0], "cpu")
    assert found.not_tried == ("kind='slow': with nothing frozen it raises ValueError: no slow",)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"argument": {}}, "a Subject has no field 'argument'.*Did you mean arguments?"),
        ({"arguments": {"lrr": 0.1}}, "arguments names 'lrr', which is no argument of it: give lr"),
    ],
)
def test_a_field_or_an_argument_that_does_not_exist_is_refused(
    fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        subjects(Chooses, **fields)
