"""The network of a case under one approach, with its optimizer, trained event by event as a script would."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from inspect import signature
from math import inf
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from frostproof.approach import Approach
from frostproof.bits import tensors_in
from frostproof.case import Case
from frostproof.modules import only
from frostproof.observation import Phase
from frostproof.program import (
    AnyEvent,
    BackwardUnderNoGrad,
    Clip,
    Eval,
    Freeze,
    SaveLoad,
    Schedule,
    SetLr,
    Step,
    Thaw,
    Train,
    ZeroGrad,
)
from frostproof.randomness import seed_everything
from frostproof.schedulers import SCHEDULERS
from frostproof.subject import Subject

Batches = Sequence[tuple[Tensor, Tensor]]
SCALE, OVERFLOW = 1024.0, inf


class Training:
    """Raises whatever the optimizer raises; `phase` then tells where it was. Subclasses look on through the methods `on_...`."""

    def __init__(self, case: Case, subject: Subject, approach: Approach, device: str, *, resumes: bool = False) -> None:
        self.phase: Phase = "forward"
        self.case, self.subject, self.approach, self.device, self.resumes = case, subject, approach, device, resumes
        self.frozen = set(case.frozen)
        self.optimizer: Any = None
        self.rates: list[float] = []  # what SetLr multiplied by, for groups that come later
        self.schedulers: dict[str, Any] = {}
        self.scaler: Any = None
        seed_everything(case.seed, device)
        self._take(case.architecture.build(device, getattr(torch, case.dtype)))
        if not approach.late:
            approach.freeze(self.model, self._of(case.frozen))
        if case.frozen_in_eval:
            self._eval_frozen()
        self.on_built()
        self.layout = self._layout()
        self._build_optimizer()
        self._pair()
        if approach.late:
            approach.freeze(self.model, self._of(case.frozen))
            self.on_changed()

    # What the approach decides

    @property
    def owned(self) -> list[int]:
        """Positions of the parameters that the optimizer holds, in its order."""
        return [i for place in range(len(self.layout)) for i in self._members(place)]

    def _take(self, model: nn.Sequential) -> None:
        self.model, self.parameters = model, list(model.parameters())

    def _of(self, positions: Iterable[int]) -> list[nn.Parameter]:
        return [self.parameters[i] for i in positions]

    def _layout(self) -> list[tuple[int, list[int]]]:
        """For each group of a new optimizer the group of the case that it comes from, and its members."""
        return self._newcomers(frozenset())

    def _newcomers(self, known: Collection[int]) -> list[tuple[int, list[int]]]:
        """What the optimizer is to own and does not know, by the groups of the case."""
        found = []
        for number, group in enumerate(self.case.groups):
            positions = map(self.case.positions.__getitem__, group.parameters)
            members = [i for i in positions if i not in known and self.approach.owns(i in self.frozen)]
            found += [(number, alike) for alike in self._alike(members)]
        return found

    def _alike(self, members: list[int]) -> list[list[int]]:
        """Members of one group, apart where the subject, or the approach, wants other keys for them."""
        if self.subject.keys is None and not self.approach.options(True):
            return [members] if members else []
        alike: dict[Any, list[int]] = {}
        for i in members:
            alike.setdefault(tuple(self._keys(i).items()), []).append(i)
        return list(alike.values())

    def _keys(self, i: int) -> dict[str, Any]:
        spec = self.case.parameters[i]
        keys = self.subject.keys(spec.name, spec.shape) if self.subject.keys is not None else {}
        return {**keys, **self.approach.options(i in self.frozen)}

    def _members(self, place: int) -> list[int]:
        """What the optimizer's group at this place holds now: of what it ever held, what is to be owned."""
        return [i for i in self.layout[place][1] if self.approach.owns(i in self.frozen)]

    def _build_optimizer(self) -> None:
        self.optimizer = None
        if not self.layout or self.subject.factory is None:
            return
        groups = [self._group(number, self._members(place)) for place, (number, _) in enumerate(self.layout)]
        arguments = {**self.subject.arguments, **dict(self.case.groups[0].options)}
        plain = len(groups) == len(self.case.groups) == 1 and self.subject.keys is None and not self.approach.options(True)
        given = groups[0]["params"] if plain else groups
        if self.subject.takes == "model":
            names = [self.case.parameters[i].name for i in sorted(self.owned)]
            given = self.model if len(names) == len(self.parameters) else only(self.model, names)
        elif self.subject.base is not None:
            given = self.subject.base(given)
        self.optimizer = self.subject.factory(given, **arguments)
        self._optimizer_mode(train=True)

    def _group(self, number: int, members: Sequence[int]) -> dict[str, Any]:
        parameters: Any = self.approach.arranged(self._of(members))
        if self.subject.takes == "named-parameters":
            names = {id(parameter): name for name, parameter in self.model.named_parameters()}
            parameters = [(names[id(parameter)], parameter) for parameter in parameters]
        keys = self._keys(members[0]) if members else {}
        return {"params": parameters, **dict(self.case.groups[number].options), **keys}

    def _pair(self) -> None:
        """Bring together the optimizers whose gradients are to be cleared."""
        companion = self.approach.companion(self._of(sorted(self.frozen)))
        stepping = self.optimizer if self.owned else None
        self.optimizers = [optimizer for optimizer in (stepping, companion) if optimizer is not None]
        self.stepping = stepping

    def _optimizer_mode(self, *, train: bool) -> None:
        mode: Phase = "train" if train else "eval"
        switch = getattr(self.optimizer, mode, None)
        if callable(switch):
            phase = self.phase
            if phase not in ("regroup", "load"):
                self.phase = mode
            switch()
            self.phase = phase
            self.on_switched()

    # Freezing and thawing

    def _change(self, event: Freeze | Thaw) -> None:
        named = map(self.case.positions.__getitem__, event.names)
        if isinstance(event, Freeze):
            changed = [i for i in named if i not in self.frozen]
            self.frozen |= {*changed}
            self.approach.freeze(self.model, self._of(changed))
            for parameter in self._of(changed):
                if event.gradient == "none":
                    parameter.grad = None
                elif event.gradient == "zeros" and parameter.grad is not None:
                    parameter.grad = torch.zeros_like(parameter.grad)
        else:
            changed = [i for i in named if i in self.frozen]
            self.frozen -= {*changed}
            self.approach.thaw(self._of(changed))
        if changed:
            phase, self.phase = self.phase, "regroup"
            self._follow()
            self._pair()
            self.on_changed()
            self.phase = phase

    def _follow(self) -> None:
        newcomers = self._newcomers({i for _, members in self.layout for i in members})
        if self.subject.factory is None or self.approach.follows == "nothing":
            self.layout = self._layout()
        elif (
            self.optimizer is None
            or self.approach.follows == "rebuild"
            or not self.subject.per_parameter
            or (newcomers and not self.subject.groups)
        ):
            self._rebuild()
        else:
            self._edit(newcomers)

    def _edit(self, newcomers: Iterable[tuple[int, list[int]]]) -> None:
        for place, group in enumerate(self.optimizer.param_groups):
            # In place: an optimizer may hold on to the list.
            group["params"][:] = self.approach.arranged(self._of(self._members(place)))
            if "param_names" in group:
                group["param_names"][:] = [name for name, _ in self._group(0, self._members(place))["params"]]
        for number, members in newcomers:
            self.optimizer.add_param_group(self._group(number, members))
            self.layout.append((number, members))
            self._catch_up(self.optimizer.param_groups[-1])
            self.on_added(members)

    def _catch_up(self, group: dict[str, Any]) -> None:
        """Give a new group the learning rate that it would have, had it been there from the start."""
        for factor in self.rates:
            _scale_rate(group, factor)

    def _rebuild(self) -> None:
        old, groups = self.optimizer, [number for number, _ in self.layout]
        if self.subject.backward == "fused":
            self._unhook()
        self.layout = self._layout()
        self._build_optimizer()
        if old is None and self.optimizer is not None:
            for group in self.optimizer.param_groups:
                self._catch_up(group)
        self.schedulers = {}
        self.on_rebuilt(old, groups)

    def _unhook(self) -> None:
        """Take from the parameters what the old optimizer hung on them, with which it would go on stepping."""
        for parameter in self.parameters:
            for hooks in (parameter._backward_hooks, parameter._post_accumulate_grad_hooks):
                if hooks:
                    hooks.clear()

    # Events

    def run(self, event: AnyEvent, seed: int, batches: Batches) -> None:
        """Go through one event. `batches`, a pair of samples and targets per backward pass, are left as they are."""
        seed_everything(seed, self.device)
        match event:
            case Step():
                self._step(event, batches)
            case Freeze() | Thaw():
                self._change(event)
            case ZeroGrad():
                self._zero_grad(event)
            case BackwardUnderNoGrad():
                self._backward_under_no_grad(batches)
            case SaveLoad():
                if self.resumes:
                    self._resume()
            case SetLr():
                self.rates.append(event.factor)
                for group in self.optimizer.param_groups if self.optimizer is not None else ():
                    _scale_rate(group, event.factor)
            case Schedule():
                self._schedule(event)
            case Train():
                self.model.train()
                self._optimizer_mode(train=True)
                self.on_mode()
            case Eval():
                self._eval(event)

    def _step(self, event: Step, batches: Batches) -> None:
        if self.device == "meta":
            event = msgspec.structs.replace(event, amp="none")  # there is no autocast on meta

        def compute() -> Tensor:
            self._clear(event.set_to_none, event.zeroed_by)
            self.on_cleared()
            total = self._passes(event, batches)
            if not self.fused:  # else the gradients have come and gone
                self._after_backward(event)
                self.on_handed()
            return total

        def closure() -> Tensor:
            loss = self.on_closure(compute)
            self.phase = "step"
            return loss

        kept = self.approach.begin(self._of(sorted(self.frozen)))
        through_closure = event.closure and self.stepping is not None
        if not through_closure or self.subject.closure == "after-backward":
            compute()
        self.phase = "step"
        if self.stepping is None:
            if event.scaled:
                self.scaler = None  # nothing told it whether the scale was too large
            return
        self._optimizer_mode(train=True)  # thawing within the step may have built the first
        if through_closure:
            self.on_returned(self.stepping.step(closure))
        elif self.subject.backward != "fused":
            self._plain_step(self.stepping, event)
        self.approach.end(self._of(sorted(self.frozen)), kept)

    def _passes(self, event: Step, batches: Batches) -> Tensor:
        total: Tensor | None = None
        for number, (samples, targets) in enumerate(batches):
            if number:
                self.approach.between_passes(self._of(sorted(self.frozen)))
            loss = self._forward(samples, targets, event.amp != "none")
            if len(batches) > 1:
                loss = loss / len(batches)
            if number == len(batches) - 1:
                for each in event.after_forward:
                    self._change(each)
            self._backward(self._scaled(loss, event))
            if not self.fused:
                self.on_pass()
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        return total

    def _after_backward(self, event: Step) -> None:
        self.on_gradients()
        self.approach.after_backward(self._of(sorted(self.frozen)))
        for parameter in self._dropped(event):
            parameter.grad = None
        unscaled = not event.scaled
        for each in event.after_backward:
            if not isinstance(each, Clip):
                self._change(each)
                continue
            if not unscaled and self.stepping is not None:
                self.scaler.unscale_(self.stepping)
                unscaled = True
            self._clip(each)

    def _plain_step(self, optimizer: Any, event: Step) -> None:
        if not event.scaled:
            optimizer.step()
            return
        without = all(parameter.grad is None for parameter in self._of(self.owned))
        try:
            self.scaler.step(optimizer)
            self.scaler.update(SCALE if event.amp == "overflow" else None)
        except AssertionError as error:
            if not without:
                raise
            self.on_scaler_refused(str(error))
            self.scaler = None

    def _scaled(self, loss: Tensor, event: Step) -> Tensor:
        if not event.scaled:
            return loss
        if self.scaler is None:
            self.scaler = torch.amp.GradScaler(self.device.partition(":")[0], init_scale=SCALE)
        if event.amp == "overflow":
            self.scaler.scale(loss.detach())  # builds the scale, which update() then replaces
            self.scaler.update(OVERFLOW)
        scaled: Tensor = self.scaler.scale(loss)
        return scaled

    def _clip(self, event: Clip) -> None:
        parameters = self._of(sorted(self.owned)) if event.over == "owned" else list(self.model.parameters())
        if event.by == "value":
            if any(parameter.grad is not None for parameter in parameters):  # else torch raises
                clip_grad_value_(parameters, event.limit)
        elif event.over == "owned":
            clip_grad_norm_(parameters, event.limit)
        else:
            self.on_clip(lambda: clip_grad_norm_(parameters, event.limit))

    def _clear(self, set_to_none: bool, by: str = "optimizer") -> None:
        self.phase = "zero_grad"
        if by == "model":
            self.model.zero_grad(set_to_none=set_to_none)
            return
        optimizers = self.optimizers
        if "set_to_none" in self.subject.unable:
            optimizers = [_ZeroGrad(optimizer.zero_grad) for optimizer in optimizers]
        self.approach.clear(optimizers, self._of(sorted(self.frozen)), set_to_none)
        if self.subject.factory is None:
            for parameter in self._of(self.owned):
                parameter.grad = None

    def _forward(self, samples: Tensor, targets: Tensor, autocast: bool = False) -> Tensor:
        self.phase = "forward"
        if not self.case.architecture.input.vocabulary:
            samples = samples.clone()  # an in-place first layer would overwrite the other twins' batch
            if self.case.input_requires_grad:
                samples.requires_grad_()
        if autocast:
            with torch.autocast(self.device.partition(":")[0], dtype=torch.bfloat16):
                outputs = self.outputs(samples)
        else:
            outputs = self.outputs(samples)
        loss = mse_loss(outputs.to(targets.dtype), targets)
        self.on_loss(loss)
        return loss

    def outputs(self, samples: Tensor) -> Tensor:
        """What the model makes of the samples."""
        # Fused attention, which is chosen by requires_grad, cannot be differentiated twice.
        with sdpa_kernel(SDPBackend.MATH) if self.subject.backward == "create-graph" else nullcontext():
            return self.approach.forward(self.model, samples, self._of(sorted(self.frozen)))

    def _backward(self, loss: Tensor) -> None:
        self.phase = "backward"
        try:
            if self.fused:
                self._fused_backward(loss)
            elif self.subject.backward == "create-graph":
                loss.backward(create_graph=True)  # type: ignore[no-untyped-call]
            else:
                self.approach.backward(loss, self._of(i for i in range(len(self.parameters)) if i not in self.frozen))
        except RuntimeError as error:
            if loss.requires_grad:
                raise
            self.on_refused(str(error))

    @property
    def fused(self) -> bool:
        """Whether the optimizer runs the backward pass, and steps within it."""
        return self.subject.backward == "fused" and self.stepping is not None

    def _fused_backward(self, loss: Tensor) -> None:
        optimizer: Any = self.stepping
        rates = {"lr": optimizer.param_groups[0]["lr"]} if "lr" in signature(optimizer.fused_backward).parameters else {}
        optimizer.fused_backward(loss, **rates)

    def release(self) -> None:
        """Let go of gradients: those of `create_graph=True` hold on to their own graph, which is never freed otherwise."""
        if self.subject.backward == "create-graph":
            for parameter in self.parameters:
                parameter.grad = None

    def _dropped(self, event: Step) -> list[nn.Parameter]:
        if event.drop == "none":
            return []
        trainable = [i for i in range(len(self.parameters)) if i not in self.frozen]
        return self._of({"first": trainable[:1], "last": trainable[-1:], "all": trainable}[event.drop])

    def _zero_grad(self, event: ZeroGrad) -> None:
        for parameter in self._of(self.owned):
            parameter.grad = torch.ones_like(parameter)
        self._clear(event.set_to_none)
        self.on_cleared()
        for parameter in self._of(self.owned):
            parameter.grad = None

    def _backward_under_no_grad(self, batches: Batches) -> None:
        self._clear(set_to_none=True)
        (samples, targets) = batches[0]
        with torch.no_grad():
            loss = self._forward(samples, targets)
        self._backward(loss)
        self.on_handed()
        self.phase = "step"
        if self.stepping is not None and not self.fused:
            self._optimizer_mode(train=True)
            if self.subject.needs_closure:
                self.stepping.step(lambda: loss)
            else:
                self.stepping.step()

    def _eval(self, event: Eval) -> None:
        if event.only_frozen:
            self._eval_frozen()
        else:
            self.model.eval()
            self._optimizer_mode(train=False)
        self.on_mode()

    def _eval_frozen(self) -> None:
        for path in self.frozen_paths():
            self.model.get_submodule(path).eval()

    def frozen_paths(self) -> list[str]:
        """Paths of the layers that are frozen as a whole."""
        return [place.path for place in self.case.architecture.places if place.uses and self.frozen.issuperset(place.uses)]

    def _schedule(self, event: Schedule) -> None:
        optimizer = self.optimizer
        if optimizer is None:
            return
        self.phase = "schedule"
        if event.scheduler not in self.schedulers:
            self.schedulers[event.scheduler] = SCHEDULERS[event.scheduler](optimizer)
        scheduler = self.schedulers[event.scheduler]
        self.on_schedule(scheduler.step if event.scheduler != "ReduceLROnPlateau" else lambda: scheduler.step(1.0))

    # Checkpoints

    def _resume(self) -> None:
        """Go on with a new model and optimizer, which know of this one only what was saved.

        Gradients are no part of a checkpoint, and are carried over by hand, so that nothing else tells the two apart.
        """
        if self.optimizer is not None and not all(map(self._members, range(len(self.layout)))):
            return  # one would not save an optimizer with an empty group
        self.phase = "load"
        dtypes = self._state_dtypes()
        saved = io.BytesIO()
        aside = self._set_aside()
        parts = {name: part for name, part in (("optimizer", self.optimizer), ("scaler", self.scaler)) if part is not None}
        states = {name: part.state_dict() for name, part in (*parts.items(), *self.schedulers.items())}
        torch.save({"model": self.model.state_dict(), **states}, saved)
        saved.seek(0)
        loaded = torch.load(saved, weights_only=False)

        modes = [module.training for module in self.model.modules()]
        gradients = [parameter.grad for parameter in self.parameters]
        seed_everything(self.case.seed + 1, self.device)
        self._take(self.case.architecture.build(self.device, getattr(torch, self.case.dtype)))
        self.model.load_state_dict(loaded["model"])
        self.approach.freeze(self.model, self._of(sorted(self.frozen)))
        for module, mode in zip(self.model.modules(), modes, strict=True):
            module.training = mode
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.on_built()
        self._build_optimizer()
        self.schedulers = {name: SCHEDULERS[name](self.optimizer) for name in self.schedulers}
        if self.optimizer is not None:
            self.optimizer.load_state_dict(loaded["optimizer"])
            self._optimizer_mode(train=True)
        for i, state in aside.items():
            self.optimizer.state[self.parameters[i]] = state
        for name, scheduler in self.schedulers.items():
            scheduler.load_state_dict(loaded[name])
        if self.scaler is not None:
            self.scaler = torch.amp.GradScaler(self.device.partition(":")[0], init_scale=SCALE)
            self.scaler.load_state_dict(loaded["scaler"])
        self._pair()
        loaded_dtypes = self._state_dtypes()
        self.on_resumed(cast=any(loaded_dtypes.get(path, dtype) != dtype for path, dtype in dtypes.items()))

    def _state_dtypes(self) -> dict[tuple[Any, ...], torch.dtype]:
        """The dtypes of the tensors that the optimizer keeps for its parameters, by position and keys."""
        states = [getattr(self.optimizer, "state", {}).get(parameter) for parameter in self.parameters]
        return {path: tensor.dtype for path, tensor in tensors_in(dict(enumerate(states)))}

    def _set_aside(self) -> dict[int, Any]:
        """Take from the optimizer the state of what its groups no longer hold: with it, state_dict() raises KeyError."""
        state = getattr(self.optimizer, "state", {})
        left = [i for i in self.case.frozen_midway if i not in self.owned and self.parameters[i] in state]
        return {i: state.pop(self.parameters[i]) for i in left}

    # For those who look on

    def on_built(self) -> None:
        """The model, or the new one that a checkpoint is loaded into, is frozen; its optimizer is not built yet."""

    def on_changed(self) -> None:
        """Something was frozen or thawed, and the optimizer has followed."""

    def on_added(self, members: Sequence[int]) -> None:
        """A group with these members was added to the optimizer."""

    def on_rebuilt(self, old: Any, groups: Sequence[int]) -> None:
        """There is a new optimizer in the place of `old`, which may be None, and had these groups of the case."""

    def on_resumed(self, *, cast: bool) -> None:
        """The checkpoint is loaded. `cast`: that changed the dtype of some state."""

    def on_mode(self) -> None:
        """Modules changed between train and eval mode."""

    def on_switched(self) -> None:
        """The optimizer has been told its mode, and may have swapped weights."""

    def on_cleared(self) -> None:
        """zero_grad has run."""

    def on_loss(self, loss: Tensor) -> None:
        """A forward pass has given this loss."""

    def on_refused(self, text: str) -> None:
        """backward of a loss without a graph raised RuntimeError with this text."""

    def on_pass(self) -> None:
        """One backward pass is done."""

    def on_gradients(self) -> None:
        """All backward passes of the step are done."""

    def on_clip(self, clip: Callable[[], Tensor]) -> None:
        """`clip` clips all gradients of the model by their norm, and returns that."""
        clip()

    def on_handed(self) -> None:
        """Gradients are as step() will find them."""

    def on_closure(self, compute: Callable[[], Tensor]) -> Tensor:
        """The optimizer calls its closure."""
        return compute()

    def on_returned(self, returned: Any) -> None:
        """step(closure) has returned."""

    def on_scaler_refused(self, text: str) -> None:
        """The GradScaler raised AssertionError with this text, for want of a gradient."""

    def on_schedule(self, step: Callable[[], Any]) -> None:
        """`step` makes the learning rate scheduler take a step."""
        step()


class _ZeroGrad:
    """The zero_grad of an optimizer that does not say how."""

    def __init__(self, clear: Callable[[], None]) -> None:
        self.clear = clear

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.clear()


def _scale_rate(group: dict[str, Any], factor: float) -> None:
    if isinstance(group.get("lr"), float | Tensor):
        group["lr"] = group["lr"] * factor
