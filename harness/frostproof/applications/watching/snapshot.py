"""Everything about frozen parameters that has to stay, at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn
from torch.optim import Optimizer

from frostproof.applications.watching.digest import Digest, changed, digest
from frostproof.training.bits import tensors_in
from frostproof.training.frozen_parts import frozen_parts


class Frozen:
    """The frozen parameters of a model, and the buffers of its frozen parts."""

    def __init__(self, model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
        self.model = model
        ids = {id(p) for p in parameters}
        named = [(name, p) for name, p in model.named_parameters() if id(p) in ids]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        self.replaced: set[int] = set()
        """The positions at which another parameter has had the name since the last look."""
        self.removed: set[int] = set()
        """The positions whose name no parameter has any more."""
        parts = frozen_parts(model, lambda name, p: id(p) in ids)
        self.buffers = {
            f"{path}.{name}" if path else name: (module, name)
            for path, module in model.named_modules()
            if path in parts
            for name, buffer in module.named_buffers(recurse=False)
        }
        """The module of each buffer of a frozen module, and its name there."""
        self.kept_in_eval = {
            name
            for name, (module, _) in self.buffers.items()
            if model.training and not module.training
        }
        """The buffers of modules that were put into eval mode by themselves, to stay there."""

    def follow(self) -> None:
        """Take the parameters that bear the names now: a module may have been replaced."""
        named = dict(self.model.named_parameters(remove_duplicate=False))
        now = [named.get(name) for name in self.names]
        pairs = [*enumerate(zip(now, self.parameters, strict=True))]
        self.removed = {i for i, (new, _) in pairs if new is None}
        self.replaced = {i for i, (new, old) in pairs if new is not old} - self.removed
        self.parameters = [old if new is None else new for _, (new, old) in pairs]


class Snapshot:
    """Frozen parameters, in the order of `Frozen`, at one moment."""

    def __init__(
        self, frozen: Frozen, optimizers: Sequence[Optimizer], *, whole: bool = True
    ) -> None:
        """`whole`: or else without anything that takes a pass over the memory."""
        parameters = frozen.parameters
        self.flags = [p.requires_grad for p in parameters]
        self.has_gradient = [p.grad is not None for p in parameters]
        self.versions = [p._version for p in parameters]
        """How often each was written in place, other than through `.data`."""
        if not whole:
            return
        owned = owned_ids(optimizers)
        self.owned = [id(p) in owned for p in parameters]
        self.weights = digest(parameters)
        self.states = [_state(p, optimizers) for p in parameters]
        held = {n: (m, b) for n, (m, b) in frozen.buffers.items() if m._buffers[b] is not None}
        self.buffers = dict(
            zip(held, digest([m.get_buffer(b) for m, b in held.values()]), strict=True)
        )
        self.evaluating = {name for name, (module, _) in held.items() if not module.training}
        self.training = {*held} - self.evaluating

    def changed_states(self, before: Snapshot) -> list[int]:
        """The positions of the parameters that had optimizer state before, and have another now."""
        pairs = enumerate(zip(before.states, self.states, strict=True))
        return [i for i, (old, new) in pairs if old and (len(old) != len(new) or changed(old, new))]

    def changed_buffers(self, before: Snapshot, kept_in_eval: Iterable[str]) -> list[str]:
        """The buffers that changed, though their module was to be in eval mode from then to now."""
        due = (before.evaluating & self.evaluating) | {*kept_in_eval}
        names = [name for name in self.buffers if name in due and name in before.buffers]
        moved = changed([before.buffers[n] for n in names], [self.buffers[n] for n in names])
        return [names[i] for i in moved]


def owned_ids(optimizers: Iterable[Optimizer]) -> set[int]:
    """The ids of the parameters that the optimizers own."""
    return {id(p) for each in optimizers for group in each.param_groups for p in group["params"]}


def _state(parameter: nn.Parameter, optimizers: Sequence[Optimizer]) -> Digest:
    """The digest of the optimizers' state of a parameter; empty where there is none."""
    # .get and not []: state is often a defaultdict, and looking would leave an entry behind.
    states = [
        each.state.get(parameter) for each in optimizers if len(each.state) > 1
    ]  # LBFGS has that of all parameters under the first of them
    return digest([tensor for _, tensor in tensors_in(states)])
