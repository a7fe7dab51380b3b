"""A twin: a training that is looked at, event by event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from frostproof.approach import Approach
from frostproof.bits import bits, bits_of, fingerprint, gradient_bits
from frostproof.case import Case
from frostproof.costs.kernels import Flops
from frostproof.costs.memory import SavedForBackward
from frostproof.observation import Activation, Bits, Clipped, ClosureUse, Cost, Observation, Start
from frostproof.program import AnyEvent, BackwardUnderNoGrad, Schedule, SetLr, Step, changes
from frostproof.randomness import generator_state
from frostproof.subject import Subject
from frostproof.training import Batches, Training


class Twin(Training):
    """Keeps plain values of what happens, for the invariants to judge."""

    def __init__(self, case: Case, subject: Subject, approach: Approach, device: str, *, resumes: bool = False) -> None:
        self.rated = case.has(SetLr, Schedule)
        self.followed = any(map(changes, case.program))
        self.renormed = any(parameter.renormed for parameter in case.parameters)
        self.seen = Observation()
        self.tracing = False
        self.counting = False
        self.saved_bytes = 0  # of the forward pass whose backward pass is to be counted
        self.grew = False
        self.undrawn = b""  # what the generators would have drawn when step() was called
        self.event: AnyEvent = Step()
        super().__init__(case, subject, approach, device, resumes=resumes)

    def observed(self, event: AnyEvent, seed: int, batches: Batches, *, trace: bool, count: bool = False) -> Observation:
        """Go through one event; `trace`: look at the output of every layer; `count`: what autograd spends."""
        seen = self.seen = Observation()
        self.event, self.tracing, self.counting, self.undrawn = event, trace, count, b""
        dtype = torch.get_default_dtype()
        self.run(event, seed, batches)
        parameters, optimizer = self.parameters, self.optimizer
        seen.grad_enabled = torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        if torch.get_default_dtype() != dtype:
            seen.default_dtype = str(torch.get_default_dtype())
            torch.set_default_dtype(dtype)
        seen.weights = bits_of(parameters)
        seen.buffers = bits_of(self.buffers.values())
        flags = [p.requires_grad for p in parameters]
        if flags != self.flags:
            seen.flipped = tuple([i for i, flag in enumerate(flags) if flag != self.flags[i]])
        seen.has_gradient = tuple([p.grad is not None for p in parameters])
        seen.held = self.held
        seen.owned = self.ownership
        if optimizer is not None:
            seen.groups_kept = self.grouping == [id(p) for group in optimizer.param_groups for p in group["params"]]
            state = getattr(optimizer, "state", {})
            # .get and not []: state is often a defaultdict, and looking would leave an entry behind.
            seen.stateful = tuple([i for i, p in enumerate(parameters) if state.get(p)])
            for i in self.case.frozen_midway:
                seen.states[i] = fingerprint(state.get(parameters[i]) or None)
            if self.rated:
                seen.rates = self._of_groups(_rate)
            if self.followed:
                own = _numbers(vars(optimizer)) + b"".join(_counts_of(each) for each in _inner(optimizer))
                seen.counts = self._of_groups(lambda group: own + _numbers(group))
        seen.generators = generator_state(self.device)
        seen.draws = bool(self.undrawn) and seen.generators != self.undrawn
        return seen

    def _of_groups(self, what: Callable[[dict[str, Any]], Any]) -> tuple[Any, ...]:
        """Something about the group of each parameter that the optimizer owns; None for the others."""
        found: list[Any] = [None] * len(self.parameters)
        for place, group in enumerate(self.optimizer.param_groups[: len(self.layout)]):
            value = what(group)
            for i in self._members(place):
                found[i] = value
        return tuple(found)

    def _take(self, model: nn.Sequential) -> None:
        super()._take(model)
        # Before anything is frozen: an approach may make buffers of parameters.
        self.buffers = dict(model.named_buffers())

    def on_built(self) -> None:
        self.flags = [p.requires_grad for p in self.parameters]
        self._look_at_modes()
        self.start = Start(bits_of(self.parameters), bits_of(self.buffers.values()))

    def _look_at_modes(self) -> None:
        if not self.buffers:
            self.held: tuple[int, ...] = ()
            return
        paths = tuple(f"{path}." for path in self.frozen_paths() if not self.model.get_submodule(path).training)
        self.held = tuple(i for i, name in enumerate(self.buffers) if name.startswith(paths)) if paths else ()

    def _pair(self) -> None:
        super()._pair()
        self.ownership = tuple(sorted(self.owned)) if self.subject.factory is not None else ()
        members = map(self._members, range(len(self.layout)))
        self.grouping = [id(p) for each in members for p in self.approach.arranged(self._of(each))]
        if not self.subject.per_parameter and self.optimizer is not None:  # it may have made groups of its own
            self.grouping = [id(p) for group in self.optimizer.param_groups for p in group["params"]]

    def on_changed(self) -> None:
        self.flags = [p.requires_grad for p in self.parameters]
        self._look_at_modes()

    def on_mode(self) -> None:
        self._look_at_modes()

    def on_resumed(self, *, cast: bool) -> None:
        self.seen.cast = cast

    def on_added(self, members: Sequence[int]) -> None:
        self.grew = True
        self.seen.added = (*self.seen.added, *members)

    def on_rebuilt(self, old: Any, groups: Sequence[int]) -> None:
        # One that makes groups of its own may have fewer than it was given.
        new = {number: group for (number, _), group in zip(self.layout, getattr(self.optimizer, "param_groups", ()), strict=False)}
        for number, group in zip(groups, getattr(old, "param_groups", ()), strict=False):
            if number in new and _options(new[number]) != _options(group):
                self.seen.forgot = True
        self.seen.built = old is None
        if old is not None and (any(getattr(old, "state", {}).values()) or _kept(old) != _kept(self.optimizer)):
            self.seen.forgot = True

    def on_switched(self) -> None:
        if isinstance(self.event, Step | BackwardUnderNoGrad):  # what it swaps on the way to train mode is no part of the step
            self.seen.weights_at_step = bits_of(self.parameters)

    def on_cleared(self) -> None:
        self.seen.evaluations += 1
        if self.seen.cleared is None:
            self.seen.zeroed = self.ownership
            self.seen.cleared = gradient_bits(self.parameters)

    def on_loss(self, loss: Tensor) -> None:
        self.seen.losses.append(bits(loss))
        if self.renormed:  # the last forward pass before the step says what it starts from
            self.seen.weights_at_step = bits_of(self.parameters)

    def on_refused(self, text: str) -> None:
        self.seen.backward_error = text

    def on_pass(self) -> None:
        if self.seen.gradients is None:
            self.seen.passes.append(gradient_bits(self.parameters))

    def on_gradients(self) -> None:
        if self.seen.gradients is None:
            self.seen.gradients = self.seen.passes[-1]

    def on_clip(self, clip: Callable[[], Tensor]) -> None:
        trainable = [p.grad for i, p in enumerate(self.parameters) if i not in self.frozen and p.grad is not None]
        norm = get_total_norm(trainable) if trainable else torch.zeros(())
        self.seen.clipped.append(Clipped(bits(clip()), bits(norm)))

    def on_handed(self) -> None:
        seen = self.seen
        if seen.handed is None:
            self.undrawn = generator_state(self.device)
            seen.stepped = self.stepping is not None
            event = self.event
            as_they_are = isinstance(event, Step) and event.drop == "none" and not event.after_backward
            as_they_are = as_they_are and type(self.approach).after_backward is Approach.after_backward
            seen.handed = seen.gradients if as_they_are else gradient_bits(self.parameters)

    def on_closure(self, compute: Callable[[], Tensor]) -> Tensor:
        use = self.seen.closure
        if use is None:
            use = self.seen.closure = ClosureUse()
        use.calls += 1
        use.grad_enabled = use.grad_enabled and torch.is_grad_enabled()
        loss = compute()
        use.losses.append(bits(loss))
        return loss

    def on_returned(self, returned: Any) -> None:
        if self.seen.closure is None:
            self.seen.closure = ClosureUse()
        self.seen.closure.returned = bits(returned) if isinstance(returned, Tensor) else returned

    def on_scaler_refused(self, text: str) -> None:
        self.seen.scaler_error = text

    def on_schedule(self, step: Callable[[], Any]) -> None:
        try:
            step()
        except Exception:
            if not self.grew:  # torch's schedulers break on groups that they were not built with
                raise

    def outputs(self, samples: Tensor) -> Tensor:
        """The forward pass, looking at the output of each layer, and at what it saves for backward."""
        if not (self.tracing or self.counting):
            return super().outputs(samples)
        saving = SavedForBackward()
        hooks = self._looking(saving) if self.tracing else []
        self.tracing = False  # the first pass of an event is enough
        with saving:
            outputs = super().outputs(samples)
        for hook in hooks:
            hook.remove()
        self.saved_bytes = sum(saving.held().values()) if self.counting else 0
        return outputs

    def _looking(self, saving: SavedForBackward) -> list[Any]:
        """Hooks that note each layer's output, and how often something was saved on the way to it."""
        activations = self.seen.activations = []
        before = 0

        def look(path: str, output: Tensor) -> None:
            nonlocal before
            activations.append(Activation(path, output.requires_grad, output.is_leaf, output.grad_fn is not None, saving.seen - before))
            before = saving.seen

        return [
            self.model.get_submodule(place.path).register_forward_hook(lambda _, __, output, path=place.path: look(path, output))
            for place in self.case.architecture.places
        ]

    def _backward(self, loss: Tensor) -> None:
        if not self.counting:
            super()._backward(loss)
            return
        self.counting = False
        with Flops() as counted:
            super()._backward(loss)
        self.seen.cost = Cost(self.saved_bytes, counted.flops)


_NUMBERS = (int, float, Tensor)


def _rate(group: dict[str, Any]) -> float | None:
    return float(group["lr"]) if isinstance(group.get("lr"), float | Tensor) else None


def _numbers(settings: dict[str, Any]) -> Bits:
    """The numbers in a parameter group, or among an optimizer's attributes, but for the learning rate."""
    # A tuple of types: a union is built and walked anew each time, and this runs at each event for each group.
    return fingerprint({key: value for key, value in settings.items() if isinstance(value, _NUMBERS) and key != "lr"})


def _inner(optimizer: Any) -> list[Any]:
    """The optimizers among an optimizer's attributes, to which it leaves the work."""
    found: list[Any] = []
    for value in vars(optimizer).values():
        found += [each for each in (value if isinstance(value, list | tuple) else (value,)) if isinstance(each, torch.optim.Optimizer)]
    return found


def _counts_of(optimizer: torch.optim.Optimizer) -> Bits:
    return _numbers(vars(optimizer)) + b"".join(map(_numbers, optimizer.param_groups))


def _kept(optimizer: Any) -> Bits:
    """What an optimizer keeps among its attributes, of its own making: counts, and state under other names."""
    given = ("param_groups", "state", "defaults")
    return fingerprint({key: value for key, value in vars(optimizer).items() if key not in given} if optimizer is not None else None)


def _options(group: dict[str, Any]) -> bytes:
    return fingerprint({name: value for name, value in group.items() if name != "params"})
