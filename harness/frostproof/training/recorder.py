"""The observer of a training: keeps plain values at its marks, for the invariants to judge."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from frostproof.approaches.approach import Approach
from frostproof.spec.case import Case, Positions
from frostproof.spec.program import (
    AddFrozen,
    AnyEvent,
    BackwardUnderNoGrad,
    Freeze,
    Schedule,
    SetLr,
    Step,
    Thaw,
    mask_changes,
)
from frostproof.training.bits import (
    bits,
    bits_of,
    fingerprint,
    fingerprint_of_object,
    gradient_bits,
    tensors_in,
)
from frostproof.training.flops import Flops
from frostproof.training.observation import (
    Activation,
    Bits,
    ClippedNorms,
    ClosureUse,
    Cost,
    Observation,
)
from frostproof.training.ownership import Masked, Ownership
from frostproof.training.rng import generator_state
from frostproof.training.saved_tensors import SavedForBackward
from frostproof.training.training import Training


class Recorder:
    """Observes one training, event by event.

    A method `at_<point>` is called at each mark of that name (see `frostproof.training.marks`). A
    recorder must leave no trace in the training: it draws no random number, and whatever it
    changes (hooks, grad mode) it puts back. Otherwise the trial would not be the training that its
    script shows.
    """

    def __init__(self, case: Case, approach: Approach, watched: Positions) -> None:
        """`watched`: the positions of the parameters whose optimizer state is kept."""
        self.watched = watched
        self.edits_gradients = type(approach).after_backward is not Approach.after_backward
        self.changes_rates = case.has(SetLr, Schedule)
        self.changes_mask = case.has(AddFrozen) or any(map(mask_changes, case.program))
        self.compares_alone = "alone" in case.extras
        self.forward_rewrites = any(parameter.renormed for parameter in case.parameters)
        self.observation = Observation(None)
        self.event: AnyEvent = Step()
        self.ownership = Ownership((), False)
        self.masked = Masked(frozenset(), ())
        self.tracing = self.counting = False
        self.rng_state_at_step = b""
        self.compiled_before: int | None = None
        """How many functions torch.compile had compiled before step(), where that is compiled."""
        self.group_order: Positions | None = ()
        self.replaced: Any = None
        """The optimizer that another one is about to replace."""
        self.state_dtypes: dict[tuple[Any, ...], torch.dtype] = {}
        """The dtypes of the optimizer's state, when a checkpoint is saved."""
        self.kept: dict[str, Bits] = {}
        """The optimizer's attributes at that time."""
        self.saved_bytes = 0
        """What the last counted forward pass saved for backward."""
        self.hooks = ExitStack()
        """Hooks that are removed after a forward pass, or after a backward pass."""
        self.default_dtype = torch.get_default_dtype()

    def begin(self, event: AnyEvent, *, trace: bool = False, count: bool = False) -> None:
        """Start the observation of an event.

        `trace`: look at the output of every layer. `count`: count what autograd spends.
        """
        self.observation = Observation(self.observation)
        self.event, self.tracing, self.counting = event, trace, count
        self.rng_state_at_step, self.compiled_before = b"", None
        self.default_dtype = torch.get_default_dtype()

    def abandon(self) -> None:
        """Put back what an event changed that ended with an exception."""
        self.hooks.close()
        torch.set_grad_enabled(True)
        torch.set_default_dtype(self.default_dtype)

    def end(self) -> Observation:
        """Return what was observed, now that the event is over."""
        observation, parameters = self.observation, self.parameters
        if self.compiled_before is not None:
            observation.functions_compiled = _functions_compiled() - self.compiled_before
        observation.grad_enabled = torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        if torch.get_default_dtype() != self.default_dtype:
            observation.default_dtype = str(self.default_dtype), str(torch.get_default_dtype())
            torch.set_default_dtype(self.default_dtype)
        observation.weights = bits_of(parameters)
        observation.buffers = bits_of(self.buffers.values())
        observation.buffer_names = self.buffer_names
        observation.flags = tuple([p.requires_grad for p in parameters])
        if observation.flags != self.flags:
            pairs = zip(observation.flags, self.flags, strict=True)
            observation.flipped_flags = tuple([i for i, (x, y) in enumerate(pairs) if x != y])
        observation.has_gradient = tuple([p.grad is not None for p in parameters])
        observation.frozen_eval_buffers = self.frozen_eval_buffers
        observation.owned = self.owned
        if self.training.optimizer is not None:
            self._look_at_optimizer(self.training.optimizer)
        state = observation.rng_state = generator_state(self.training.device)
        observation.drew_random_numbers = self.rng_state_at_step not in (b"", state)
        return observation

    def _look_at_optimizer(self, optimizer: Any) -> None:
        observation, parameters = self.observation, self.parameters
        observation.groups_kept = self.group_ids == _group_ids(optimizer)
        observation.group_order = self.group_order
        state = self._state_of(optimizer)
        # .get and not []: state is often a defaultdict, and looking would leave an entry behind.
        observation.stateful = tuple([i for i, p in enumerate(parameters) if _holds(state.get(p))])
        for i in self.watched:
            kept = state.get(parameters[i])
            values = kept if isinstance(kept, Mapping) else {"": kept}
            observation.states[i] = (
                {str(key): fingerprint(value) for key, value in values.items()}
                if _holds(kept)
                else {}
            )
        if self.changes_rates:
            observation.learning_rates = self._of_groups(optimizer, _rate)
        if self.compares_alone:
            counts = _counts(getattr(optimizer, "each", [optimizer]))
            observation.counts = tuple([counts.get(id(p), {}) for p in parameters])
        if self.changes_mask:
            named = {key: value for key, value in state.items() if isinstance(key, str)}
            # A wrapper's numbers are about how it shares out, and its groups may lack defaults.
            held = self._inner(optimizer)
            own = [_numbers(vars(held)), _numbers(named), *_numbers_of_inner(held)]
            observation.group_numbers = self._of_groups(held, lambda g: [*own, _numbers(g)])

    def _state_of(self, optimizer: Any) -> Any:
        return getattr(self._inner(optimizer), "state", {})

    def _inner(self, optimizer: Any) -> Any:
        """The optimizer that holds state and counts: the one inside that of the setting."""
        return getattr(optimizer, self.training.subject.setting.inner, optimizer)

    def _of_groups(self, optimizer: Any, what: Callable[[dict[str, Any]], Any]) -> tuple[Any, ...]:
        """Something about the group of each owned parameter; None for the others."""
        found: list[Any] = [None] * len(self.parameters)
        for members, group in zip(self.ownership.members, optimizer.param_groups, strict=False):
            value = what(group)
            for i in members:
                found[i] = value
        return tuple(found)

    # Marks

    def at(self, training: Training, point: str, value: Any) -> None:
        self.training = training
        look = getattr(self, f"at_{point}", None)
        if look is not None:
            look(value)

    def at_network(self, value: None) -> None:
        # Before anything is frozen: an approach may turn parameters into buffers.
        self.parameters = list(self.training.model.parameters())
        self.buffers = dict(self.training.model.named_buffers())
        self.buffer_names = tuple(self.buffers)

    def at_built(self, masked: Masked) -> None:
        self.at_changed(masked)
        if self.observation.previous is None:
            self.observation.weights = bits_of(self.parameters)
            self.observation.buffers = bits_of(self.buffers.values())
            self.observation.frozen_eval_buffers = self.frozen_eval_buffers
            self.observation.has_gradient = (False,) * len(self.parameters)

    def at_changed(self, masked: Masked) -> None:
        self.masked = masked
        self.flags = tuple([p.requires_grad for p in self.parameters])
        self.at_modes(None)

    def at_modes(self, value: None) -> None:
        # A way may replace modules as it freezes. Only the attributes are kept: the search for the
        # modules at each forward pass cost a twentieth of a trial.
        self.modules = [vars(module) for module in self.training.model.modules()]
        modules = ((path, self.training.model.get_submodule(path)) for path in self.masked.paths)
        evaluating = tuple(f"{path}." for path, module in modules if not module.training)
        self.frozen_eval_buffers = tuple(
            i for i, name in enumerate(self.buffers) if evaluating and name.startswith(evaluating)
        )

    def at_owned(self, ownership: Ownership) -> None:
        self.ownership, self.owned = ownership, tuple(sorted(ownership.owned))
        self.group_ids = [id(self.parameters[i]) for i in ownership.owned]
        self.group_order = ownership.owned
        own = not self.training.subject.per_parameter or self.training.approach.follows == "itself"
        if own and self.training.optimizer is not None:
            # It, or the user's way, may have made groups of its own.
            self.group_ids, self.group_order = _group_ids(self.training.optimizer), None

    def at_added(self, members: Positions) -> None:
        self.observation.added_to_optimizer += members
        if self.training.approach.follows == "itself":
            self.observation.chosen_settings += self._chosen_settings(members)
            self.observation.means_settings = self.training.approach.own_settings
        # The user may thaw them before or after, so what the flags were is known only here.
        if self.training.approach.adds_first and not self.observation.flags_flipped_by_adding:
            self.observation.flags_flipped_by_adding = tuple(
                i for i in members if self.parameters[i].requires_grad != self.flags[i]
            )

    def _chosen_settings(self, members: Positions) -> tuple[str, ...]:
        """Settings of a group that the user's way added, which no other has, or had at first."""
        optimizer, added = self.training.optimizer, {id(self.parameters[i]) for i in members}
        first = optimizer.param_groups[0]
        given = {**optimizer.defaults, **dict(self.training.case.groups[0].options)}
        groups = [
            group
            for group in optimizer.param_groups
            if any(id(p) in added for p in group["params"])
        ]
        return tuple(
            key
            for key, value in given.items()
            if any(
                fingerprint(group.get(key)) not in (fingerprint(value), fingerprint(first.get(key)))
                for group in groups
            )
        )

    def at_replacing(self, value: None) -> None:
        self.replaced = self.training.optimizer

    def at_rebuilt(self, groups: tuple[Positions, Positions]) -> None:
        """`groups`: the numbers of the case's groups that the old and the new groups come from."""
        old, optimizer = self.replaced, self.training.optimizer
        self.observation.optimizer_created = old is None
        # An optimizer that makes groups of its own may have fewer than it received.
        new = dict(zip(groups[1], getattr(optimizer, "param_groups", ()), strict=False))
        pairs = zip(groups[0], getattr(old, "param_groups", ()), strict=False)
        self.observation.state_lost |= any(
            number in new and _options(new[number]) != _options(group) for number, group in pairs
        ) or (
            old is not None
            and (any(map(_holds, self._state_of(old).values())) or _kept(old) != _kept(optimizer))
        )

    def at_load(self, value: None) -> None:
        self.state_dtypes, self.kept = self._state_dtypes(), _kept(self.training.optimizer)

    def at_resumed(self, value: None) -> None:
        loaded = self._state_dtypes().get
        saved = self.state_dtypes.items()
        self.observation.state_cast = any(loaded(path, dtype) != dtype for path, dtype in saved)
        kept = _kept(self.training.optimizer)
        unlike = (name for name, value in self.kept.items() if kept.get(name) != value)
        self.observation.unlike_attributes = tuple(n for n in unlike if n not in _OF_TORCH)

    def _state_dtypes(self) -> dict[tuple[Any, ...], torch.dtype]:
        """The dtypes of state tensors of the optimizer, and of those inside it.

        They are by the number of the optimizer, and the parameter's position and keys.
        """
        optimizer = self.training.optimizer
        found = [self._state_of(each) for each in (optimizer, *_inner_optimizers(optimizer))]
        states = [{i: each.get(p) for i, p in enumerate(self.parameters)} for each in found]
        return {path: tensor.dtype for path, tensor in tensors_in(dict(enumerate(states)))}

    def at_switched(self, value: None) -> None:
        # The weights that a change to train mode swaps are not changed by the event.
        if isinstance(self.event, Step | BackwardUnderNoGrad | Freeze | Thaw | AddFrozen):
            self.observation.weights_at_step = bits_of(self.parameters)

    def at_loaded(self, value: None) -> None:
        self.observation.weights_at_step = bits_of(self.parameters)

    def at_cleared(self, value: None) -> None:
        self.observation.evaluations += 1
        if self.observation.grads_after_zero_grad is None:
            self.observation.owned_at_zero_grad = self.owned
            self.observation.grads_after_zero_grad = gradient_bits(self.parameters)

    def at_forward(self, value: None) -> None:
        modes = [(each["training"], each.get("track_running_stats")) for each in self.modules]
        self.observation.modes += (tuple(modes),)
        if not (self.tracing or self.counting):
            return
        saving = self.hooks.enter_context(SavedForBackward())
        if self.tracing:
            self._trace(saving)
        if self.counting:
            self.hooks.callback(lambda: setattr(self, "saved_bytes", sum(saving.held().values())))
        self.tracing = False  # the first pass of an event is enough

    def _trace(self, saving: SavedForBackward) -> None:
        """Note each layer's output, and the number of tensors that the layer saved."""
        activations = self.observation.activations = []
        before = 0

        def look(path: str, output: Tensor) -> None:
            nonlocal before
            has_grad_fn, saved = output.grad_fn is not None, saving.seen - before
            activations.append(
                Activation(path, output.requires_grad, output.is_leaf, has_grad_fn, saved)
            )
            before = saving.seen

        for place in self.training.case.architecture.places:
            module = self.training.model.get_submodule(place.path)
            hook = module.register_forward_hook(
                lambda _, __, output, path=place.path: look(path, output)
            )
            self.hooks.callback(hook.remove)

    def at_loss(self, loss: Tensor) -> None:
        self.hooks.close()
        self.observation.losses.append(bits(loss))
        if self.forward_rewrites:  # the last forward pass leaves the weights that step() finds
            self.observation.weights_at_step = bits_of(self.parameters)

    def at_backward(self, loss: Tensor) -> None:
        if not loss.requires_grad:  # the statements skip backward; here is what torch says of it
            try:
                loss.backward()  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                self.observation.backward_error = str(error)
        if self.counting:
            counted = self.hooks.enter_context(Flops())

            def keep() -> None:
                self.observation.cost = Cost(self.saved_bytes, counted.flops)

            self.hooks.callback(keep)
            self.counting = False

    def at_pass(self, value: None) -> None:
        self.hooks.close()
        if self.observation.grads_after_backward is None:
            self.observation.grads_after_each_pass.append(gradient_bits(self.parameters))

    def at_gradients(self, value: None) -> None:
        if self.observation.grads_after_backward is None:
            self.observation.grads_after_backward = self.observation.grads_after_each_pass[-1]

    def at_clip(self, value: None) -> None:
        gradients = {i: p.grad for i, p in enumerate(self.parameters) if p.grad is not None}
        leftover = [grad for i, grad in gradients.items() if i in self.masked.frozen]
        norms = ClippedNorms(_norm([*gradients.values()]), _norm(leftover))
        self.observation.clipped_norms.append(norms)

    def at_handed(self, value: None) -> None:
        observation, event = self.observation, self.event
        if observation.grads_at_step is None:
            self.rng_state_at_step = generator_state(self.training.device)
            observation.optimizer_called = self.ownership.stepping
            trained = (i for i in self.ownership.owned if i not in self.masked.frozen)
            gradients = [self.parameters[i].grad for i in trained]
            if self.training.subject.hooks and (None in gradients or not gradients):
                return  # Hooks may have stepped, and nobody knows with which gradients.
            unedited = isinstance(event, Step) and event.drop == "none" and not event.after_backward
            observation.grads_at_step = (
                observation.grads_after_backward
                if unedited and not self.edits_gradients
                else gradient_bits(self.parameters)
            )

    @property
    def closure(self) -> ClosureUse:
        if self.observation.closure is None:
            self.observation.closure = ClosureUse()
        return self.observation.closure

    def at_called(self, value: None) -> None:
        self.closure.calls += 1
        self.closure.grad_enabled = self.closure.grad_enabled and torch.is_grad_enabled()

    def at_returning(self, loss: Tensor) -> None:
        self.closure.losses.append(bits(loss))

    def at_returned(self, value: Any) -> None:
        self.closure.returned = bits(value) if isinstance(value, Tensor) else value
        if self.training.subject.backward == "in-step":
            self.observation.optimizer_called = True
            grads = gradient_bits(self.parameters)
            if any(grad is not None for grad in grads):  # if none is left, step() cleared them
                self.observation.grads_at_step = grads

    def at_step(self, value: None) -> None:
        if self.training.subject.setting.step:
            self.compiled_before = _functions_compiled()

    def at_refused(self, error: Exception) -> None:
        self.observation.scaler_error = str(error)


def _functions_compiled() -> int:
    """How many functions torch.compile has compiled so far, or tried to."""
    counters: Mapping[str, Mapping[str, int]] = torch._dynamo.utils.counters
    return counters["frames"]["total"]


_FLAGS = ("_opt_called", "_need_device_dtype_check_for_fused")
"""Attributes that schedulers and fused kernels set."""
_OF_TORCH = ("step", *_FLAGS)
"""The same, and the step that schedulers wrap. In a group it is a number, which counts."""
_OF_EACH = (
    "param_groups",
    "state",
    "_warned_capturable_if_run_uncaptured",
    *(
        f"_optimizer_{call}_{when}_hooks"
        for call in ("step", "state_dict", "load_state_dict")
        for when in ("pre", "post")
    ),
)
"""Attributes of each of torch's optimizers that hold no count. They are written out, because to
build an optimizer here would import torch._dynamo, which takes a second."""
_NO_COUNTS = {"lr", "initial_lr", "params", *_FLAGS, *_OF_EACH}
_PLAIN_NUMBERS = (int, float)
_SEQUENCES = (list, tuple, deque)
"""Tuples: isinstance would build a union anew for each group at each event."""


def _norm(gradients: list[Tensor]) -> Bits:
    return bits(get_total_norm(gradients) if gradients else torch.zeros(()))


def _group_ids(optimizer: Any) -> list[int]:
    return [id(p) for group in optimizer.param_groups for p in group["params"]]


def _rate(group: dict[str, Any]) -> float | None:
    lr = group.get("lr")
    return float(lr) if isinstance(lr, (int, float, Tensor)) else None


def _holds(state: Any) -> bool:
    """Whether an entry of an optimizer's state is more than the empty dict that looking makes."""
    return state is not None and not (isinstance(state, Mapping) and not state)


def _numbers(settings: dict[str, Any]) -> dict[str, Any]:
    """The numbers in a parameter group, or among an optimizer's attributes, but no rates."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if key in _NO_COUNTS:
            continue
        if isinstance(value, _PLAIN_NUMBERS):
            found[key] = value if value == value else "nan"  # which is unlike itself
        elif isinstance(value, Tensor):
            found[key] = bits(value)
        elif value is not None and (numbers := _only_numbers(value)) is not None:
            found[key] = fingerprint(numbers)
    return found


def _counts(optimizers: Iterable[Any]) -> dict[int, Mapping[str, float]]:
    """By the id of each parameter, the plain numbers that its optimizer and its group hold."""
    return {
        id(p): _plain_numbers({**vars(optimizer), **group})
        for optimizer in optimizers
        for group in optimizer.param_groups
        for p in group["params"]
    }


def _plain_numbers(settings: Mapping[str, Any]) -> Mapping[str, float]:
    """Unlike `_numbers`, by their names."""
    pairs = settings.items()
    return {k: v for k, v in pairs if type(v) in (int, float) and k not in _NO_COUNTS}


def _only_numbers(value: Any) -> list[Any] | None:
    """The plain numbers in a dict or list that holds nothing else; None if there are none.

    Keys are left out: they may be addresses, which differ in each training. What is kept of
    parameters is no count of a group.
    """
    if isinstance(value, Mapping) and not any(isinstance(key, Tensor) for key in value):
        value = value.values()
    elif not isinstance(value, _SEQUENCES):
        return None
    found: list[Any] = []
    for each in value:
        number = each if type(each) in (int, float) else _only_numbers(each)
        if number is None:
            return None  # at once: most groups begin with their parameters
        found.append(number)
    return found or None


def _inner_optimizers(optimizer: Any) -> Iterator[torch.optim.Optimizer]:
    """The optimizers among an optimizer's attributes, which do its work."""
    for value in getattr(optimizer, "__dict__", {}).values():
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, torch.optim.Optimizer):
                yield each


def _numbers_of_inner(optimizer: Any) -> Iterator[dict[str, Any]]:
    """The same for the optimizers inside an optimizer."""
    for each in _inner_optimizers(optimizer):
        yield from map(_numbers, (vars(each), *each.param_groups))


def _kept(optimizer: Any) -> dict[str, Bits]:
    """What an optimizer keeps in attributes of its own: counts, and state under other names."""
    given = ("param_groups", "state", "defaults")
    attributes = {} if optimizer is None else vars(optimizer)
    own = {key: value for key, value in attributes.items() if key not in given}
    return {key: fingerprint(value, fingerprint_of_object) for key, value in own.items()}


def _options(group: dict[str, Any]) -> bytes:
    return fingerprint({name: value for name, value in group.items() if name != "params"})
