"""Where the FLOPs of one step are spent: forward and backward, for each call of each module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from frostproof.applications.costs.task import CostTask, tensor_leaves
from frostproof.training.flops import Flops

Node = Any
"""A `torch.autograd.graph.Node`. While a reference is kept, autograd returns the same object."""


@dataclass(eq=False)
class ModuleCall:
    """One call of one module, without the modules that it calls in turn."""

    path: str
    differentiable: tuple[bool, ...]
    """For each tensor in the arguments, whether it requires grad."""
    sources: frozenset[Node]
    """The nodes of the arguments."""
    began: int
    """The FLOPs of the whole step when the call began."""
    needed_by: str | None = None
    """The model's first parameter whose gradient flows through the arguments."""
    within: int = 0
    """The FLOPs of the modules that it calls."""
    forward: int = 0
    backward: int = 0


class StepTrace:
    """One forward and one backward pass; `calls` are in the order in which they begin.

    Work that backward repeats counts for the operation that needs it.
    """

    def __init__(self, model: nn.Module, task: CostTask) -> None:
        self.calls: list[ModuleCall] = []
        self.open: list[ModuleCall] = []
        self.order = {
            id(parameter): (i, name) for i, (name, parameter) in enumerate(model.named_parameters())
        }
        self.owner: dict[Node, ModuleCall] = {}
        self.first: dict[Node, tuple[int, str] | None] = {}
        hooks = [
            hook for path, module in model.named_modules() for hook in self._hooked(path, module)
        ]
        with Flops() as self.flops:
            try:
                outputs = task.outputs(model)
            finally:
                for hook in hooks:  # a segment that backward computes again is not a new call
                    hook.remove()
            loss = task.loss(outputs)
            for node, call in self.owner.items():
                self._time(node, call)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]

    def _hooked(self, path: str, module: nn.Module) -> Iterator[Any]:
        yield module.register_forward_pre_hook(
            lambda _, *arguments: self._enter(path, arguments), with_kwargs=True
        )
        yield module.register_forward_hook(lambda module, args, outputs: self._leave(outputs))

    def _enter(self, path: str, arguments: Any) -> None:
        tensors = tensor_leaves(arguments)
        # Read now, because the module may overwrite its arguments.
        sources = frozenset(each.grad_fn for each in tensors if each.grad_fn is not None)
        call = ModuleCall(
            path, tuple(each.requires_grad for each in tensors), sources, self.flops.flops
        )
        found = [first for node in sources if (first := self._first(node)) is not None]
        call.needed_by = min(found)[1] if found else None
        self.calls.append(call)
        self.open.append(call)

    def _leave(self, outputs: Any) -> None:
        call = self.open.pop()
        took = self.flops.flops - call.began
        call.forward = took - call.within
        if self.open:
            self.open[-1].within += took
        for node in _upstream((each.grad_fn for each in tensor_leaves(outputs)), call.sources):
            self.owner.setdefault(node, call)

    def _first(self, node: Node) -> tuple[int, str] | None:
        """The first parameter upstream of a node, with its number in the model."""
        stack = [node]
        while stack:
            above = [each for each, _ in stack[-1].next_functions if each is not None]
            waiting = [each for each in above if each not in self.first]
            if waiting:
                stack += waiting
                continue
            at = stack.pop()
            found = [each for each in (self.first[one] for one in above) if each is not None]
            leaf = self.order.get(id(getattr(at, "variable", None)))
            self.first[at] = min([*found, leaf]) if leaf is not None else min(found, default=None)
        return self.first[node]

    def _time(self, node: Node, call: ModuleCall) -> None:
        """Count the FLOPs of a node's backward for a call."""
        began = [0]

        def before(*_: Any) -> None:
            began[0] = self.flops.flops

        def after(*_: Any) -> None:
            call.backward += self.flops.flops - began[0]

        node.register_prehook(before)
        node.register_hook(after)


def _upstream(nodes: Iterable[Node], stop: frozenset[Node]) -> Iterator[Node]:
    """The nodes, and all nodes that their gradients flow to, without those at or behind `stop`."""
    stack = [node for node in nodes if node is not None]
    seen = {*stop}
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            yield node
            stack += [each for each, _ in node.next_functions if each is not None]
