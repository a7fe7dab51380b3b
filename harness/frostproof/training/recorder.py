"""A recorder looks on while a case is trained, and keeps plain values for the invariants to judge."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from frostproof.approaches.approach import Approach
from frostproof.spec.case import Case, Positions
from frostproof.spec.program import (
    AnyEvent,
    BackwardUnderNoGrad,
    Freeze,
    Schedule,
    SetLr,
    Step,
    Thaw,
    mask_changes,
)
from frostproof.training.bits import bits, bits_of, fingerprint, gradient_bits, tensors_in
from frostproof.training.flops import Flops
from frostproof.training.lowering import Masked, Ownership
from frostproof.training.observation import (
    Activation,
    Bits,
    Clipped,
    ClosureUse,
    Cost,
    Observation,
    Start,
)
from frostproof.training.rng import generator_state
from frostproof.training.saved_tensors import SavedForBackward
from frostproof.training.training import Training


class Recorder:
    """Observes one training, event by event."""

    def __init__(self, case: Case, approach: Approach, watched: Positions) -> None:
        self.watched = watched
        self.drops = type(approach).after_backward is not Approach.after_backward
        self.rated = case.has(SetLr, Schedule)
        self.followed = any(map(mask_changes, case.program))
        self.renormed = any(parameter.renormed for parameter in case.parameters)
        self.seen = Observation()
        self.event: AnyEvent = Step()
        self.ownership = Ownership((), False)
        self.masked = Masked(frozenset(), ())
        self.tracing = self.counting = False
        self.undrawn = b""  # what the generators would have drawn when step() was called
        self.given: (
            Positions | None
        ) = ()  # what the groups were given, where they are not of the optimizer's own making
        self.replaced: Any = None  # the optimizer in whose place another is about to be built
        self.dtypes: dict[
            tuple[Any, ...], torch.dtype
        ] = {}  # of what the optimizer keeps, as a checkpoint is saved
        self.saved_bytes = 0  # of the forward pass whose backward pass is to be counted
        self.looking = ExitStack()  # what ends with a forward pass, or with a backward pass

    def begin(self, event: AnyEvent, *, trace: bool = False, count: bool = False) -> None:
        """An event is about to begin. `trace`: look at the output of every layer; `count`: what autograd spends."""
        self.seen = Observation()
        self.event, self.tracing, self.counting, self.undrawn = event, trace, count, b""
        self.dtype = torch.get_default_dtype()

    def end(self, training: Training) -> Observation:
        """What was seen, now that the event is over."""
        seen, parameters, optimizer = self.seen, self.parameters, training.optimizer
        seen.grad_enabled = torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        if torch.get_default_dtype() != self.dtype:
            seen.default_dtype = str(self.dtype), str(torch.get_default_dtype())
            torch.set_default_dtype(self.dtype)
        seen.weights = bits_of(parameters)
        seen.buffers = bits_of(self.buffers.values())
        seen.flags = tuple([p.requires_grad for p in parameters])
        if seen.flags != self.flags:
            seen.flipped = tuple([i for i, flag in enumerate(seen.flags) if flag != self.flags[i]])
        seen.has_gradient = tuple([p.grad is not None for p in parameters])
        seen.held = self.held
        seen.owned = self.owned
        if optimizer is not None:
            self._look_at_optimizer(optimizer)
        seen.generators = generator_state(training.device)
        seen.draws = bool(self.undrawn) and seen.generators != self.undrawn
        return seen

    def _look_at_optimizer(self, optimizer: Any) -> None:
        seen, parameters = self.seen, self.parameters
        seen.groups_kept = self.grouping == _grouping(optimizer)
        seen.grouping = self.given
        state = getattr(optimizer, "state", {})
        # .get and not []: state is often a defaultdict, and looking would leave an entry behind.
        seen.stateful = tuple([i for i, p in enumerate(parameters) if state.get(p)])
        for i in self.watched:
            seen.states[i] = fingerprint(state.get(parameters[i]) or None)
        if self.rated:
            seen.rates = self._of_groups(optimizer, _rate)
        if self.followed:
            named = {key: value for key, value in state.items() if isinstance(key, str)}
            own = (
                _numbers(vars(optimizer))
                + _numbers(named)
                + b"".join(_counts_of(each) for each in _inner(optimizer))
            )
            seen.counts = self._of_groups(optimizer, lambda group: own + _numbers(group))

    def _of_groups(self, optimizer: Any, what: Callable[[dict[str, Any]], Any]) -> tuple[Any, ...]:
        """Something about the group of each parameter that the optimizer owns; None for the others."""
        found: list[Any] = [None] * len(self.parameters)
        for members, group in zip(self.ownership.members, optimizer.param_groups, strict=False):
            value = what(group)
            for i in members:
                found[i] = value
        return tuple(found)

    # Marks

    def at(self, training: Training, point: str, value: Any, data: Any) -> None:
        """See `frostproof.training.marks` for what each mark means."""
        look = _LOOKS.get(point)
        if look is not None:
            look(self, training, value, data)

    def _network(self, training: Training, value: Any, data: Any) -> None:
        # Before anything is frozen: an approach may make buffers of parameters.
        self.parameters = list(training.model.parameters())
        self.buffers = dict(training.model.named_buffers())

    def _built(self, training: Training, value: Any, data: Masked) -> None:
        self._changed(training, value, data)
        self.start = Start(bits_of(self.parameters), bits_of(self.buffers.values()))

    def _changed(self, training: Training, value: Any, data: Masked) -> None:
        self.masked = data
        self.flags = tuple([p.requires_grad for p in self.parameters])
        self._modes(training, value, data)

    def _modes(self, training: Training, value: Any, data: Any) -> None:
        if not self.buffers:
            self.held: tuple[int, ...] = ()
            return
        paths = tuple(
            f"{path}."
            for path in self.masked.paths
            if not training.model.get_submodule(path).training
        )
        self.held = (
            tuple(i for i, name in enumerate(self.buffers) if name.startswith(paths))
            if paths
            else ()
        )

    def _owns(self, training: Training, value: Any, data: Ownership) -> None:
        self.ownership, self.owned = data, tuple(sorted(data.owned))
        self.grouping, self.given = [id(self.parameters[i]) for i in data.owned], data.owned
        if (
            not training.subject.per_parameter and training.optimizer is not None
        ):  # it may have made groups of its own
            self.grouping, self.given = _grouping(training.optimizer), None

    def _added(self, training: Training, value: Any, data: tuple[int, ...]) -> None:
        self.seen.added = (*self.seen.added, *data)
        # The user may thaw them before or after, so what the flags were is known only here.
        before = [self.flags[i] for i in data] if training.approach.adds_first else []
        flipped = [
            i
            for i, flag in zip(data, before, strict=False)
            if self.parameters[i].requires_grad != flag
        ]
        self.seen.flipped_by_adding = self.seen.flipped_by_adding or tuple(flipped)

    def _replacing(self, training: Training, value: Any, data: Any) -> None:
        self.replaced = training.optimizer

    def _rebuilt(
        self, training: Training, value: Any, data: tuple[tuple[int, ...], tuple[int, ...]]
    ) -> None:
        old, optimizer = self.replaced, training.optimizer
        # One that makes groups of its own may have fewer than it was given.
        new = dict(zip(data[1], getattr(optimizer, "param_groups", ()), strict=False))
        for number, group in zip(data[0], getattr(old, "param_groups", ()), strict=False):
            if number in new and _options(new[number]) != _options(group):
                self.seen.forgot = True
        self.seen.built = old is None
        if old is not None and (
            any(getattr(old, "state", {}).values()) or _kept(old) != _kept(optimizer)
        ):
            self.seen.forgot = True

    def _load(self, training: Training, value: Any, data: Any) -> None:
        self.dtypes = self._state_dtypes(training)

    def _resumed(self, training: Training, value: Any, data: Any) -> None:
        loaded = self._state_dtypes(training)
        self.seen.cast = any(
            loaded.get(path, dtype) != dtype for path, dtype in self.dtypes.items()
        )

    def _state_dtypes(self, training: Training) -> dict[tuple[Any, ...], torch.dtype]:
        """The dtypes of the tensors that the optimizer keeps for its parameters, by position and keys."""
        states = [
            getattr(training.optimizer, "state", {}).get(parameter) for parameter in self.parameters
        ]
        return {path: tensor.dtype for path, tensor in tensors_in(dict(enumerate(states)))}

    def _switched(self, training: Training, value: Any, data: Any) -> None:
        # What it swaps on the way to train mode is not part of the event.
        if isinstance(self.event, Step | BackwardUnderNoGrad | Freeze | Thaw):
            self.seen.weights_at_step = bits_of(self.parameters)

    def _cleared(self, training: Training, value: Any, data: Any) -> None:
        self.seen.evaluations += 1
        if self.seen.cleared is None:
            self.seen.zeroed = self.owned
            self.seen.cleared = gradient_bits(self.parameters)

    def _forward(self, training: Training, value: Any, data: Any) -> None:
        if not (self.tracing or self.counting):
            return
        saving = self.looking.enter_context(SavedForBackward())
        if self.tracing:
            self._trace(training, saving)
        if self.counting:
            self.looking.callback(lambda: setattr(self, "saved_bytes", sum(saving.held().values())))
        self.tracing = False  # the first pass of an event is enough

    def _trace(self, training: Training, saving: SavedForBackward) -> None:
        """Note each layer's output, and how often something was saved on the way to it."""
        activations = self.seen.activations = []
        before = 0

        def look(path: str, output: Tensor) -> None:
            nonlocal before
            activations.append(
                Activation(
                    path,
                    output.requires_grad,
                    output.is_leaf,
                    output.grad_fn is not None,
                    saving.seen - before,
                )
            )
            before = saving.seen

        for place in training.case.architecture.places:
            module = training.model.get_submodule(place.path)
            hook = module.register_forward_hook(
                lambda _, __, output, path=place.path: look(path, output)
            )
            self.looking.callback(hook.remove)

    def _loss(self, training: Training, value: Tensor, data: Any) -> None:
        self.looking.close()
        self.seen.losses.append(bits(value))
        if self.renormed:  # the last forward pass before the step says what it starts from
            self.seen.weights_at_step = bits_of(self.parameters)

    def _backward(self, training: Training, value: Tensor, data: Any) -> None:
        if not value.requires_grad:  # the statements pass it by; here is what torch says of it
            try:
                value.backward()  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                self.seen.backward_error = str(error)
        if self.counting:
            counted = self.looking.enter_context(Flops())
            self.looking.callback(
                lambda: setattr(self.seen, "cost", Cost(self.saved_bytes, counted.flops))
            )
            self.counting = False

    def _pass(self, training: Training, value: Any, data: Any) -> None:
        self.looking.close()
        if self.seen.gradients is None:
            self.seen.passes.append(gradient_bits(self.parameters))

    def _gradients(self, training: Training, value: Any, data: Any) -> None:
        if self.seen.gradients is None:
            self.seen.gradients = self.seen.passes[-1]

    def _clip(self, training: Training, value: Any, data: Any) -> None:
        found = [p.grad for p in self.parameters if p.grad is not None]
        trainable = [
            p.grad
            for i, p in enumerate(self.parameters)
            if i not in self.masked.frozen and p.grad is not None
        ]
        self.seen.clipped.append(Clipped(_norm(found), _norm(trainable)))

    def _handed(self, training: Training, value: Any, data: Any) -> None:
        seen, event = self.seen, self.event
        if seen.handed is None:
            self.undrawn = generator_state(training.device)
            seen.stepped = self.ownership.stepping
            as_they_are = (
                isinstance(event, Step)
                and event.drop == "none"
                and not event.after_backward
                and not self.drops
            )
            seen.handed = seen.gradients if as_they_are else gradient_bits(self.parameters)

    def _called(self, training: Training, value: Any, data: Any) -> None:
        use = self._closure()
        use.calls += 1
        use.grad_enabled = use.grad_enabled and torch.is_grad_enabled()

    def _returning(self, training: Training, value: Tensor, data: Any) -> None:
        self._closure().losses.append(bits(value))

    def _returned(self, training: Training, value: Any, data: Any) -> None:
        self._closure().returned = bits(value) if isinstance(value, Tensor) else value

    def _closure(self) -> ClosureUse:
        if self.seen.closure is None:
            self.seen.closure = ClosureUse()
        return self.seen.closure

    def _refused(self, training: Training, value: Exception, data: Any) -> None:
        self.seen.scaler_error = str(value)


_LOOKS: dict[str, Callable[[Recorder, Training, Any, Any], None]] = {
    "network": Recorder._network,
    "built": Recorder._built,
    "changed": Recorder._changed,
    "modes": Recorder._modes,
    "owned": Recorder._owns,
    "added": Recorder._added,
    "replacing": Recorder._replacing,
    "rebuilt": Recorder._rebuilt,
    "load": Recorder._load,
    "resumed": Recorder._resumed,
    "switched": Recorder._switched,
    "cleared": Recorder._cleared,
    "forward": Recorder._forward,
    "loss": Recorder._loss,
    "backward": Recorder._backward,
    "pass": Recorder._pass,
    "gradients": Recorder._gradients,
    "clip": Recorder._clip,
    "handed": Recorder._handed,
    "called": Recorder._called,
    "returning": Recorder._returning,
    "returned": Recorder._returned,
    "refused": Recorder._refused,
}
"""Mark -> what the recorder looks at there."""

_NUMBERS = (int, float, Tensor)


def _norm(gradients: list[Tensor]) -> Bits:
    return bits(get_total_norm(gradients) if gradients else torch.zeros(()))


def _grouping(optimizer: Any) -> list[int]:
    return [id(p) for group in optimizer.param_groups for p in group["params"]]


def _rate(group: dict[str, Any]) -> float | None:
    return float(group["lr"]) if isinstance(group.get("lr"), float | Tensor) else None


def _numbers(settings: dict[str, Any]) -> Bits:
    """The numbers in a parameter group, or among an optimizer's attributes, but for the learning rate."""
    # A tuple of types: a union is built and walked anew each time, and this runs at each event for each group.
    return fingerprint(
        {
            key: value
            for key, value in settings.items()
            if isinstance(value, _NUMBERS) and key != "lr"
        }
    )


def _inner(optimizer: Any) -> list[Any]:
    """The optimizers among an optimizer's attributes, to which it leaves the work."""
    found: list[Any] = []
    for value in vars(optimizer).values():
        found += [
            each
            for each in (value if isinstance(value, list | tuple) else (value,))
            if isinstance(each, torch.optim.Optimizer)
        ]
    return found


def _counts_of(optimizer: torch.optim.Optimizer) -> Bits:
    return _numbers(vars(optimizer)) + b"".join(map(_numbers, optimizer.param_groups))


def _kept(optimizer: Any) -> Bits:
    """What an optimizer keeps among its attributes, of its own making: counts, and state under other names."""
    given = ("param_groups", "state", "defaults")
    return fingerprint(
        {key: value for key, value in vars(optimizer).items() if key not in given}
        if optimizer is not None
        else None
    )


def _options(group: dict[str, Any]) -> bytes:
    return fingerprint({name: value for name, value in group.items() if name != "params"})
