"""A twin: the network of a case under one approach, with its optimizer, going through events."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from frostproof.approach import Approach
from frostproof.bits import bits, bits_of, gradient_bits
from frostproof.case import Case
from frostproof.observation import Activation, ClosureUse, Observation, Phase, Start
from frostproof.program import AnyEvent, BackwardUnderNoGrad, Step, ZeroGrad
from frostproof.randomness import generator_state, seed_everything
from frostproof.subject import Subject


class Twin:
    """Raises whatever the optimizer raises; `phase` then tells where it was."""

    def __init__(self, case: Case, subject: Subject, approach: Approach, device: str) -> None:
        self.phase: Phase = "forward"
        self.case, self.subject, self.approach, self.device = case, subject, approach, device
        seed_everything(case.seed, device)
        self.model = case.architecture.build(device, getattr(torch, case.dtype))
        self.parameters = list(self.model.parameters())
        self.frozen = [self.parameters[i] for i in case.frozen]
        approach.freeze(self.model, self.frozen)
        held = self._eval_frozen_modules() if case.frozen_in_eval else set()
        buffers = list(self.model.named_buffers())
        self.buffers = [buffer for _, buffer in buffers]
        owned = tuple(i for i in range(len(self.parameters)) if approach.owns(i in case.frozen))
        self.owned = [self.parameters[i] for i in owned]
        self.start = Start(
            weights=bits_of(self.parameters),
            buffers=bits_of(self.buffers),
            requires_grad=tuple([p.requires_grad for p in self.parameters]),
            owned=owned,
            held_buffers=tuple(i for i, (name, _) in enumerate(buffers) if name.rpartition(".")[0] in held),
            has_optimizer=bool(owned) and subject.factory is not None,
        )
        self.optimizer = self._build_optimizer(owned) if self.start.has_optimizer else None
        companion = approach.companion(self.frozen)
        self.optimizers = [optimizer for optimizer in (self.optimizer, companion) if optimizer is not None]
        if self.optimizer is not None:
            self.grouping = [id(p) for group in self.optimizer.param_groups for p in group["params"]]

    def _eval_frozen_modules(self) -> set[str]:
        frozen = set(map(id, self.frozen))
        held = set()
        for path, module in self.model.named_modules():
            own = list(module.parameters(recurse=False))
            if own and frozen.issuperset(map(id, own)):
                module.eval()
                held.add(path)
        return held

    def _build_optimizer(self, owned: tuple[int, ...]) -> Any:
        positions = {parameter.name: i for i, parameter in enumerate(self.case.parameters)}
        groups = []
        for group in self.case.groups:
            members = [i for i in map(positions.__getitem__, group.parameters) if i in owned]
            if members:
                groups.append({"params": self.approach.arranged([self.parameters[i] for i in members]), **dict(group.options)})
        arguments = {**self.subject.arguments, **dict(self.case.groups[0].options)}
        assert self.subject.factory is not None
        return self.subject.factory(groups[0]["params"] if len(self.case.groups) == 1 else groups, **arguments)

    def run(self, event: AnyEvent, seed: int, samples: Tensor, targets: Tensor, trace: bool) -> Observation:
        """Go through one event. `samples` and `targets` are shared with the other twins and left as they are."""
        seed_everything(seed, self.device)
        seen = Observation()
        if isinstance(event, Step):
            self._step(event, seen, samples, targets, trace)
        elif isinstance(event, ZeroGrad):
            self._zero_grad(event, seen)
        else:
            self._backward_under_no_grad(event, seen, samples, targets)
        self._look(seen)
        return seen

    def _look(self, seen: Observation) -> None:
        parameters, optimizer = self.parameters, self.optimizer
        seen.grad_enabled = torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        seen.weights = bits_of(parameters)
        seen.buffers = bits_of(self.buffers)
        seen.requires_grad = tuple([p.requires_grad for p in parameters])
        seen.has_gradient = tuple([p.grad is not None for p in parameters])
        if optimizer is not None:
            seen.groups_kept = self.grouping == [id(p) for group in optimizer.param_groups for p in group["params"]]
            state = getattr(optimizer, "state", {})
            # .get and not []: state is often a defaultdict, and looking would leave an entry behind.
            seen.stateful = tuple([i for i, p in enumerate(parameters) if state.get(p)])
        seen.generators = generator_state(self.device)

    def _clear(self, set_to_none: bool) -> None:
        self.phase = "zero_grad"
        self.approach.clear(self.optimizers, self.frozen, set_to_none)
        if self.optimizer is None:
            for parameter in self.owned:
                parameter.grad = None

    def _forward(self, samples: Tensor, targets: Tensor, seen: Observation, trace: bool = False) -> Tensor:
        self.phase = "forward"
        if not self.case.architecture.input.vocabulary:
            samples = samples.clone()  # an in-place first layer would overwrite the other twins' batch
            if self.case.input_requires_grad:
                samples.requires_grad_()
        loss = mse_loss(self._trace(samples, seen) if trace else self.model(samples), targets)
        seen.losses.append(bits(loss))
        return loss

    def _trace(self, samples: Tensor, seen: Observation) -> Tensor:
        """The forward pass of the model, looking at the output of each layer, and counting what it saves for backward."""
        activations = seen.activations = []
        saved = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal saved
            saved += 1
            return tensor

        def look(path: str, output: Tensor) -> None:
            nonlocal saved
            activations.append(Activation(path, output.requires_grad, output.is_leaf, output.grad_fn is not None, saved))
            saved = 0

        hooks = [
            self.model.get_submodule(place.path).register_forward_hook(lambda _, __, output, path=place.path: look(path, output))
            for place in self.case.architecture.places
        ]
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            output: Tensor = self.model(samples)
        for hook in hooks:
            hook.remove()
        return output

    def _backward(self, loss: Tensor, seen: Observation) -> None:
        self.phase = "backward"
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if loss.requires_grad:
                raise
            seen.backward_error = str(error)

    def _step(self, event: Step, seen: Observation, samples: Tensor, targets: Tensor, trace: bool) -> None:
        def compute() -> Tensor:
            self._clear(event.set_to_none)
            if seen.cleared is None:
                seen.cleared = gradient_bits(self.parameters)
            loss = self._forward(samples, targets, seen, trace and seen.gradients is None)
            self._backward(loss, seen)
            if seen.gradients is None:
                seen.gradients = gradient_bits(self.parameters)
            for parameter in self._dropped(event):
                parameter.grad = None
            if seen.had_gradient is None:
                seen.had_gradient = tuple([p.grad is not None for p in self.parameters])
            return loss

        if not event.closure or self.optimizer is None:
            compute()
            self.phase = "step"
            if self.optimizer is not None:
                self.optimizer.step()
            return

        use = seen.closure = ClosureUse()

        def closure() -> Tensor:
            use.calls += 1
            use.grad_enabled = use.grad_enabled and torch.is_grad_enabled()
            loss = compute()
            use.losses.append(bits(loss))
            self.phase = "step"
            return loss

        self.phase = "step"
        returned = self.optimizer.step(closure)
        use.returned = bits(returned) if isinstance(returned, Tensor) else returned

    def _dropped(self, event: Step) -> list[nn.Parameter]:
        positions = self.case.trainable
        if event.drop == "none" or not positions:
            return []
        if event.drop == "all":
            return [self.parameters[i] for i in positions]
        return [self.parameters[positions[0 if event.drop == "first" else -1]]]

    def _zero_grad(self, event: ZeroGrad, seen: Observation) -> None:
        for parameter in self.owned:
            parameter.grad = torch.ones_like(parameter)
        self._clear(event.set_to_none)
        seen.cleared = gradient_bits(self.parameters)
        for parameter in self.owned:
            parameter.grad = None

    def _backward_under_no_grad(self, event: BackwardUnderNoGrad, seen: Observation, samples: Tensor, targets: Tensor) -> None:
        self._clear(set_to_none=True)
        before = [p.grad is not None for p in self.parameters]
        with torch.no_grad():
            loss = self._forward(samples, targets, seen)
        self._backward(loss, seen)
        seen.had_gradient = tuple(before)
        self.phase = "step"
        if self.optimizer is not None:
            if self.subject.closure == "required":
                self.optimizer.step(lambda: loss)
            else:
                self.optimizer.step()
