"""What still gets computed in a model that is partly frozen, module by module, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import cycle
from typing import Any

import msgspec
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from frostproof.applications.costs.task import CostTask
from frostproof.applications.costs.tracing import ModuleCall, StepTrace
from frostproof.applications.costs.ways import A
from frostproof.training.flops import comparable


class LayerCost(msgspec.Struct, frozen=True):
    """One module, less the modules within it that are called by themselves, in one step under A.

    `weights` and `frozen` count numbers, not tensors. `weight_flops` and `input_flops`: of backward, for gradients of its
    own parameters and of its arguments. `needed_by`: the first parameter, in the order of the model, that trains and whose
    gradient comes through these arguments; None where there is none. `unreached`: whether something in it ought to train and
    gets no gradient.
    """

    path: str
    kind: str
    weights: int
    frozen: int
    forward_flops: int
    weight_flops: int
    input_flops: int
    needed_by: str | None
    unreached: bool

    @property
    def why(self) -> str:
        """What a backward pass through it is for, in words."""
        trains = (
            "gets no gradient" if self.unreached else "trains" if self.frozen < self.weights else ""
        )
        needed = f"needed by {self.needed_by}" if self.needed_by else ""
        again = "computes a segment again" if not self.weights and self.input_flops else ""
        return (
            "; ".join(filter(None, (trains, needed or again))) or "nothing: all before it is frozen"
        )


def layer_costs(task: CostTask) -> list[LayerCost]:
    """Every module that has weights or computes something counted, in the order of the model.

    What its backward pass spends on arguments is what it spends with all weights frozen, and its arguments as they are.
    Whatever the model raises comes through.
    """
    model = task.thawed()
    A.freeze(model, task.frozen)
    with comparable(model):
        calls = StepTrace(model, task.inputs).calls
        held = task.thawed().requires_grad_(False)
        _differentiate(held, calls)
        passing = StepTrace(held, task.inputs).calls
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    return list(_layers(task, calls, passing, trained))


def _differentiate(model: nn.Module, calls: Iterable[ModuleCall]) -> None:
    """Have arguments require grad where they did in these calls; also where backward computes a segment again."""
    flags: dict[str, list[tuple[bool, ...]]] = {}
    for call in calls:
        flags.setdefault(call.path, []).append(call.differentiable)

    def hook(path: str) -> Callable[..., Any]:
        turns = cycle(flags[path])

        def replaced(module: nn.Module, *arguments: Any) -> Any:
            wanted = iter(next(turns))
            return tree_map(
                lambda each: _needing(each, next(wanted)) if isinstance(each, Tensor) else each,
                arguments,
            )

        return replaced

    for path, module in model.named_modules():
        if path in flags:
            module.register_forward_pre_hook(hook(path), with_kwargs=True)


def _needing(tensor: Tensor, needs: bool) -> Tensor:
    # No leaf, so that it can be overwritten.
    return (
        tensor.detach().requires_grad_().clone() if needs and not tensor.requires_grad else tensor
    )


def _layers(
    task: CostTask, calls: list[ModuleCall], passing: list[ModuleCall], trained: Collection[str]
) -> Iterable[LayerCost]:
    modules = dict(task.model.named_modules())
    called = {call.path for call in calls}
    owned: dict[str, list[tuple[str, nn.Parameter]]] = {path: [] for path in modules}
    for name, parameter in task.model.named_parameters():
        owned[_caller(name.rpartition(".")[0], called)].append((name, parameter))
    spent: dict[str, list[tuple[ModuleCall, ModuleCall]]] = {path: [] for path in modules}
    for call, passed in zip(calls, passing, strict=True):
        spent[call.path].append((call, passed))
    for path, module in modules.items():
        forward = sum(call.forward for call, _ in spent[path])
        backward = sum(call.backward for call, _ in spent[path])
        if not (owned[path] or forward or backward):
            continue
        inputs = (
            sum(min(passed.backward, call.backward) for call, passed in spent[path])
            if owned[path]
            else backward
        )
        yield LayerCost(
            path=path,
            kind=type(module).__name__,
            weights=sum(parameter.numel() for _, parameter in owned[path]),
            frozen=sum(parameter.numel() for name, parameter in owned[path] if name in task.frozen),
            forward_flops=forward,
            weight_flops=backward - inputs,
            input_flops=inputs,
            needed_by=next((call.needed_by for call, _ in spent[path] if call.needed_by), None),
            unreached=any(
                name not in trained and name not in task.frozen for name, _ in owned[path]
            ),
        )


def _caller(path: str, called: Collection[str]) -> str:
    """The module that computes with the parameters of the one at `path`: itself, or the nearest around it that is called."""
    at = path
    while at and at not in called:
        at = at.rpartition(".")[0]
    return at if at in called else path
