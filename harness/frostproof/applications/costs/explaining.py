"""What a partly frozen model still computes, module by module, and why."""

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
from frostproof.training.flops import countable_kernels


class LayerCost(msgspec.Struct, frozen=True):
    """One module in one step under A, without the modules inside it that are called themselves."""

    path: str
    kind: str
    weights: int
    """Numbers, not tensors, in its parameters."""
    frozen: int
    """Those in frozen parameters."""
    forward_flops: int
    weight_flops: int
    """Of backward, for the gradients of its own parameters."""
    input_flops: int
    """Of backward, for the gradients of its arguments."""
    needed_by: str | None
    """The first trainable parameter, in the order of the model, whose gradient flows through the
    arguments, if there is one."""
    unreached: bool
    """Whether one of its trainable parameters gets no gradient."""

    @property
    def why(self) -> str:
        """The purpose of a backward pass through it, in words."""
        trains = "trains" if self.frozen < self.weights else ""
        if self.unreached:
            trains = "gets no gradient"
        needed = "computes a segment again" if not self.weights and self.input_flops else ""
        if self.needed_by:
            needed = f"needed by {self.needed_by}"
        return "; ".join(filter(None, (trains, needed))) or "nothing: all before it is frozen"


def layer_costs(task: CostTask) -> list[LayerCost]:
    """Every module that has weights or takes FLOPs, in the order of the model.

    The cost of its arguments' gradients is measured by a second pass, with all weights frozen and
    the same arguments requiring grad. Passes on any error of the model.
    """
    model = task.thawed()
    A.freeze(model, task.frozen)
    with countable_kernels(model):
        calls = StepTrace(model, task).calls
        frozen = task.thawed().requires_grad_(False)
        _differentiate(frozen, calls)
        passing = StepTrace(frozen, task).calls
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    return list(_layers(task, calls, passing, trained))


def _differentiate(model: nn.Module, calls: Iterable[ModuleCall]) -> None:
    """Make the arguments of each module require grad as they did in these calls.

    They also do so when backward computes a segment again. The arguments of a parametrization are
    weights, and stay frozen.
    """
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
        if path in flags and ".parametrizations." not in f".{path}":
            module.register_forward_pre_hook(hook(path), with_kwargs=True)


def _needing(tensor: Tensor, needs: bool) -> Tensor:
    if not needs or tensor.requires_grad:
        return tensor
    return tensor.detach().requires_grad_().clone()  # a leaf could not be overwritten in place


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
    """The path of the module that computes with the parameters of the module at `path`.

    It is that module, or the nearest one around it that is called.
    """
    at = path
    while at and at not in called:
        at = at.rpartition(".")[0]
    return at if at in called else path
