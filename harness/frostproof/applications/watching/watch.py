"""Frozen parameters in a training of one's own, looked at after each step of the optimizer."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from frostproof.applications.watching.digest import Digest, changed, digest
from frostproof.applications.watching.snapshot import Frozen, Snapshot, owned_ids
from frostproof.applications.watching.wrappers import unreduced
from frostproof.errors import UsageError
from frostproof.invariants import (
    buffers_hold_in_eval,
    flags_untouched,
    no_grad_allocated,
)
from frostproof.invariants.registry import BY_ID
from frostproof.optimizers.torch_version import torch_is
from frostproof.spec.patterns import counted, listed, matching
from frostproof.training.bits import shard_of
from frostproof.training.frozen_parts import frozen_parts

OUTSIDE = "something outside of step()"
WITH_MODES = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
"""Modules that do something else in eval mode, beside those with an argument `dropout`."""
_LIBRARIES = tuple(f"{each}{os.sep}" for each in (torch.__path__[0], Path(__file__).parents[2]))
PATIENCE = 10
"""Steps with a gradient after which what was thawed must have moved."""
COMPILED = "compiled"
"""In the place of the frame of a step that torch.compile runs, in several frames."""


@dataclass(frozen=True)
class Finding:
    """Something frozen that did not stay as it was."""

    step: int
    """The number of the step, from 1."""
    invariant: str
    """The id of the invariant that it breaks."""
    name: str
    """The parameter or the buffer."""
    message: str
    """What happened and what to do, in one line."""

    @property
    def thing(self) -> tuple[str, str]:
        """What it is about: one parameter may move for several reasons."""
        moves = self.invariant == "frozen-weights-unchanged"
        return self.name, self.message if moves else self.invariant

    def __str__(self) -> str:
        return f"{self.invariant}: at step {self.step}: {self.message}"


@dataclass
class _Thawed:
    """What was thawed, until it moves."""

    parameter: nn.Parameter
    weights: Digest
    missed: int = 0
    """The steps in which it had a gradient, and did not move."""
    idle: int = 0
    """The steps in which its gradient was None."""


def _has_gradient(parameter: nn.Parameter) -> bool:
    """Whether this rank has a gradient for it that is not zeros."""
    grad = parameter.grad
    if grad is None:
        return False
    return bool(shard_of(grad.coalesce().values() if grad.is_sparse else grad).any())


def _uncompiled(
    look: Callable[[Optimizer, FrameType | str], None],
) -> Callable[[Optimizer, Any, Any], None]:
    """A hook that looks, and that torch.compile does not compile with the step."""
    # torch states no types for it.
    aside = torch.compiler.disable(look)  # type: ignore[no-untyped-call]

    def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling():
            aside(optimizer, COMPILED)
        else:
            look(optimizer, sys._getframe(1))

    return hook


def _flat(patterns: Any) -> list[Any]:
    """Patterns in a list, however they were given: alone, in lists, or in lists among others."""
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        return [patterns]
    return [each for some in patterns for each in _flat(some)]


def _users_level() -> int:
    """The `stacklevel` with which whoever calls this warns in the user's code.

    Between them are torch, whose step() calls the hooks, and this package.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        level, frame = level + 1, frame.f_back
    return level


class watch:  # noqa: N801 - a context manager is called like a function, as torch.no_grad is
    """Looks after each step of the optimizer whether everything frozen stayed as it was.

    Frozen weights, their optimizer state, and the buffers of frozen modules in eval mode must keep
    their bits. Parameters with requires_grad=False must keep it, and must get no gradient. A frozen
    parameter that the optimizer did not own must not get into its groups while it requires grad.
    What thaws must require grad, be in an optimizer, and move within ten steps with a gradient. A
    DistributedDataParallel around it must have been built since.

    An optimizer that is built later is watched from its first step, if it owns a parameter of the
    model.

    The first thing that does not hold raises a `ViolationError` from within `optimizer.step()`; or
    everything is collected in `findings`, each thing once. Looking waits for an accelerator.

    What may be meant is a warning: a frozen norm in train mode that rewrites its buffers, an
    optimizer that owns nothing that requires grad, a thawed layer without a gradient, a gradient
    that a frozen parameter keeps, and a `with` block in which it made no step, or in which nothing
    was frozen. `warnings` keeps them. `print` shows the findings, those that are alike in one line,
    and the warnings.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Iterable[Optimizer],
        frozen: str | Iterable[str] | None = None,
        *,
        collect: bool = False,
        every: int = 1,
        buffers: bool = False,
    ) -> None:
        """Begin to watch. Raises UsageError.

        It is raised if nothing is frozen, if a pattern matches nothing, or if no optimizer owns a
        parameter of the model. `buffers`: a frozen module in train mode that rewrites its buffers
        is a violation too.

        `optimizer`: one, or several. `frozen`: globs of parameters' names, or names of modules; by
        default every parameter with requires_grad=False; `["!head"]`: all but the head; `[]` if all
        of it freezes later. `every`: look after each n-th step.
        """
        if not isinstance(model, nn.Module):
            raise UsageError(f"the model is a {type(model).__name__}: give it before its optimizer")
        self.model, self.collect, self.every = model, collect, every
        self.buffers = buffers
        given = optimizer if isinstance(optimizer, Iterable) else (optimizer,)
        self.optimizers: list[Optimizer] = [*given]
        self.findings: list[Finding] = []
        self.warnings: list[str] = []
        """What may be meant."""
        self.steps = 0
        """The number of steps so far."""
        if every < 1:
            raise UsageError(f"every is {every}: give a number of steps of at least 1")
        self._warned = self._froze = False
        self._told: set[tuple[str, str]] = set()
        """The thing of each finding."""
        self._off: set[str] = set()
        """The names of what is watched and had requires_grad=False once."""
        self._thawed: dict[str, nn.Parameter] = {}
        """What was thawed since the last step: its name, and the parameter."""
        self._still: dict[str, _Thawed] = {}
        """What was thawed and has not moved since, by its name."""
        self._ever_thawed: dict[str, None] = {}
        """The names of all that was thawed and is not frozen."""
        self._between_masks = False
        """Whether the mask is about to change, perhaps in several calls."""
        self._hooks = ExitStack()
        self._step: FrameType | str | None = None
        """The frame of the step that runs, or COMPILED."""
        for each in self.optimizers:
            if not hasattr(each, "_optimizer_step_post_hooks"):
                raise UsageError(
                    f"{type(each).__name__} tells nobody of its steps: give the "
                    "torch.optim.Optimizer that it wraps"
                )
        known = {id(p) for p in model.parameters()}
        owned = owned_ids(self.optimizers)
        if not known & owned:
            raise UsageError(
                "the optimizer owns no parameter of this model: give the model and the optimizer "
                "that train together"
            )
        self._start(self._matching(frozen))
        before, after = self._before_step, self._after_step
        self._hooks.callback(register_optimizer_step_pre_hook(_uncompiled(before)).remove)
        self._hooks.callback(register_optimizer_step_post_hook(_uncompiled(after)).remove)

    def freeze(self, *patterns: str | Iterable[str]) -> None:
        """Watch these parameters too, from now on."""
        self._check_between_masks()
        added = self._matching(patterns, "freeze()")
        for name in self._named(added):
            self._thawed.pop(name, None)
            self._still.pop(name, None)
            self._ever_thawed.pop(name, None)
        self._start([*self.frozen.parameters, *added])

    def thaw(self, *patterns: str | Iterable[str]) -> None:
        """Watch these parameters no longer: they are to train.

        At the next step they must require grad, and an optimizer must own them. They must move
        before they have had a gradient in ten steps.
        """
        thawed = self._matching(patterns, "thaw()")
        self._check_between_masks()
        leaving = {id(p) for p in thawed}
        if leaving.isdisjoint(id(p) for p in self.frozen.parameters):
            names = ", ".join(_flat(patterns))
            raise UsageError(f"thaw() of {names}: it is not watched as frozen")
        self._start([p for p in self.frozen.parameters if id(p) not in leaving])
        named = self._named(thawed)
        self._thawed |= named
        self._still |= {name: _Thawed(p, digest([p])) for name, p in named.items()}
        self._ever_thawed |= dict.fromkeys(named)

    def _check_between_masks(self) -> None:
        """Look now, but leave it to the next step to judge flags: other calls may follow."""
        self._between_masks = True
        try:
            self.check()
        finally:
            self._between_masks = False

    def check(self) -> None:
        """Look now, as after a step. Raises ViolationError, unless findings are collected."""
        self.frozen.follow()
        now = Snapshot(self.frozen, self.optimizers)
        if self._step is not None:
            self._warn_of_modes()
            self._warn_of_gradients()
        found = [each for each in self._compare(now) if each.thing not in self._told]
        self._warn_of_buffers(now)
        self._told |= {each.thing for each in found}
        self.findings += found
        self._last = now
        self._note_flags(now)
        if found and not self.collect:
            raise BY_ID[found[0].invariant].violation(str(found[0]))

    def close(self) -> None:
        """Look once more, and stop watching."""
        self.stop()
        self.check()

    def stop(self) -> None:
        """Stop watching, without a last look."""
        self._hooks.close()

    def __str__(self) -> str:
        """The findings, those that are alike in one line, and the warnings."""
        alike: dict[tuple[int, str, str], list[str]] = {}
        for each in self.findings:
            # As a word: the text may speak of weights, and a parameter may be called weight.
            name = each.name if each.name in each.message else each.name.rpartition(".")[0]
            text = re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", "{}", each.message)
            alike.setdefault((each.step, each.invariant, text), []).append(name)
        numbers = {
            "step": self.steps,
            "finding": len(self.findings),
            "warning": len(self.warnings),
            "frozen parameter": len(self.frozen.names),
        }
        texts = (counted(n, word) for word, n in numbers.items() if n or word != "warning")
        lines = [", ".join(texts), *self._thawed_lines()]
        for (step, invariant, text), names in alike.items():
            lines.append(str(Finding(step, invariant, "", text.replace("{}", listed(names)))))
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def _thawed_lines(self) -> Iterator[str]:
        """What thawed and has moved since, and what has not."""
        moved = [name for name in self._ever_thawed if name not in self._still]
        for names, what in ((moved, "moved since"), ([*self._still], "not moved yet")):
            if names:
                modules = dict.fromkeys(name.rpartition(".")[0] or name for name in names)
                count = counted(len(names), "parameter")
                yield f"thawed and {what}: {count} of {listed([*modules])}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            if not self.steps:
                self._warn(
                    "frostproof.watch saw no step: give it the model and the optimizer that train "
                    "within the `with` block"
                )
            elif not self._froze:
                self._warn(
                    "frostproof.watch had nothing to watch: it began with frozen=[], and nothing "
                    "was frozen by freeze()"
                )
        else:  # which must not be hidden by what it left behind
            self.stop()

    def _matching(
        self, patterns: Iterable[str | Iterable[str]] | None, given: str = "frozen"
    ) -> list[nn.Parameter]:
        named = dict(self.model.named_parameters(remove_duplicate=False))
        if patterns is None:
            found = [p for p in named.values() if not p.requires_grad]
        else:
            names = _flat(patterns)
            if not all(isinstance(each, str) for each in names):
                name = given.removesuffix("()")
                how = "frozen=['backbone']" if name == given else f"{name}('backbone')"
                raise UsageError(f"{given} has an object in it: give names, as {how}")
            found = [named[name] for name in matching(names, [*named], given)]
        nothing_yet = given == "frozen" and patterns is not None and not [*patterns]
        if not found and not nothing_yet:
            raise UsageError(
                "nothing is frozen: give frozen=[...], patterns of parameters' names, or "
                "frozen=[] if what freezes later is told by freeze()"
            )
        return found

    def _named(self, parameters: Iterable[nn.Parameter]) -> dict[str, nn.Parameter]:
        ids = {id(p) for p in parameters}
        return {name: p for name, p in self.model.named_parameters() if id(p) in ids}

    def _start(self, parameters: Iterable[nn.Parameter]) -> None:
        self.frozen = Frozen(self.model, parameters)
        self._froze |= bool(self.frozen.names)
        self._may_have_gradients = True
        self._first = self._last = self._at_step = Snapshot(self.frozen, self.optimizers)
        self._off &= {*self.frozen.names}
        self._note_flags(self._first)

    def _note_flags(self, now: Snapshot) -> None:
        flags = zip(self.frozen.names, now.flags, strict=True)
        self._off.update(name for name, requires_grad in flags if not requires_grad)

    def _is_watched(self, optimizer: Optimizer) -> bool:
        """Whether an optimizer trains the model; one that is new is watched from now on."""
        if any(each is optimizer for each in self.optimizers):
            return True
        known = {id(p) for p in self.model.parameters()}
        # It may be somebody else's, and of any kind.
        if not hasattr(optimizer, "param_groups") or known.isdisjoint(owned_ids([optimizer])):
            return False
        self.optimizers.append(optimizer)
        return True

    def _before_step(self, optimizer: Optimizer, stepping: FrameType | str) -> None:
        """`stepping`: the frame of the step, or COMPILED."""
        if not self._is_watched(optimizer):
            return
        if isinstance(self._step, FrameType) and isinstance(stepping, FrameType):
            # It calls the step() of its base class, or it raised.
            frame: FrameType | None = stepping
            while frame is not None and frame is not self._step:
                frame = frame.f_back
            if frame is not None:
                return
        elif self._step is stepping:  # the same in a compiled step, where nobody knows which
            return
        self._step = stepping
        self._at_step = Snapshot(self.frozen, self.optimizers, whole=False)

    def _after_step(self, optimizer: Optimizer, stepping: FrameType | str) -> None:
        if self._step is not stepping:
            return
        self.steps += 1
        if self.steps == 1:
            self._warn_of_owners()
        try:
            if self.steps % self.every == 0:
                self.check()
        finally:
            self._step = None

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        warnings.warn(text, stacklevel=_users_level())

    def _warn_of_owners(self) -> None:
        """Warn if nothing trains, as after a head was replaced behind the optimizer's back."""
        watched = {id(p) for p in self.frozen.parameters}
        trainable = {
            name: id(p)
            for name, p in self.model.named_parameters()
            if p.requires_grad and id(p) not in watched
        }
        owned = owned_ids(self.optimizers)
        if trainable and owned.isdisjoint(trainable.values()):
            names = ", ".join([*trainable][:4]) + (" and others" if len(trainable) > 4 else "")
            self._warn(
                f"no optimizer owns what requires grad ({names}), so that nothing trains: build "
                "the optimizer after the last change of the model"
            )

    def _warn_of_buffers(self, now: Snapshot) -> None:
        """Warn once of frozen modules in train mode that rewrite their buffers."""
        names = (
            [] if self._warned or self.buffers else now.changed_buffers(self._last, now.training)
        )
        names = [each for each in names if each in now.training - self.frozen.kept_in_eval]
        if names:
            self._warned = True
            paths = list(dict.fromkeys(each.rpartition(".")[0] for each in names))
            self._warn(
                f"frozen modules in train mode rewrite their buffers: {', '.join(paths)}; call "
                "eval() of each after model.train(), and buffers=True makes this a violation"
            )

    def _warn_of_gradients(self) -> None:
        """Warn once of gradients that frozen parameters had before, and that nothing clears."""
        if not self._may_have_gradients:
            return
        self._may_have_gradients = False
        owned = owned_ids(self.optimizers)
        pairs = zip(self.frozen.names, self.frozen.parameters, strict=True)
        names = [
            name
            for name, p in pairs
            if not p.requires_grad and id(p) not in owned and _has_gradient(p)
        ]
        if names:
            self._warn(
                f"frozen parameters keep a gradient of an earlier backward pass ({listed(names)}): "
                "no optimizer owns them, so that optimizer.zero_grad() leaves it, and "
                "clip_grad_norm_(model.parameters()) counts it; set grad to None when you freeze"
            )

    def _warn_of_modes(self) -> None:
        """Warn of modules in eval mode in what was thawed since the last step."""
        thawed = {id(p) for p in self._thawed.values()}
        parts = frozen_parts(self.model, lambda name, p: id(p) in thawed) if thawed else {}
        modules = ((path, self.model.get_submodule(path)) for path in parts)
        names = [
            path
            for path, module in modules
            if not module.training
            and (isinstance(module, WITH_MODES) or isinstance(vars(module).get("dropout"), float))
        ]
        if names:
            self._warn(
                f"what was thawed has modules in eval mode ({listed(names)}): call train() of them "
                "if they are to train as before"
            )

    # What is found

    def _compare(self, now: Snapshot) -> Iterator[Finding]:
        frozen, last = self.frozen, self._last
        if self._step is not None:
            yield from self._untrained()
            yield from self._unmoved()
        moved = sorted({*changed(last.weights, now.weights), *frozen.removed})
        for i in moved:
            yield self._found("frozen-weights-unchanged", i, self._moving(i, now))
        for i in sorted({*now.changed_states(last)} - {*moved}):
            text = f"the optimizer's state of {frozen.names[i]}, which is frozen, changed"
            yield self._found("freeze-midway-holds", i, f"{text}: {self._why(i, now)}")
        for i in range(len(frozen.names)):
            yield from self._flag_and_gradient(i, now)
        due = {*now.buffers} if self.buffers else frozen.kept_in_eval
        names = now.changed_buffers(last, due)
        training: dict[str, list[str]] = {}
        for name in names:
            if name in now.evaluating:
                text = buffers_hold_in_eval.CHANGED.text.format(buffer=name)
                yield Finding(self.steps, "buffers-hold-in-eval", name, text)
            else:
                path, _, last_part = name.rpartition(".")
                training.setdefault(path, []).append(last_part)
        for path, own in training.items():
            name = f"{path}.{own[0]}".removeprefix(".")
            was = ", which was in eval mode" if name in frozen.kept_in_eval else ""
            text = (
                f"train mode changed the buffer{'s' * (len(own) > 1)} {', '.join(own)} of the "
                f"frozen {path or 'model'}{was}: call eval() after model.train()"
            )
            yield Finding(self.steps, "buffers-hold-in-eval", name, text)

    def _untrained(self) -> Iterator[Finding]:
        """What was thawed, and did not train in the step that has just been made."""
        owned = owned_ids(self.optimizers)
        for name, parameter in self._thawed.items():
            why = ""
            if not parameter.requires_grad:
                why = "its requires_grad is False: call requires_grad_(True)"
            elif id(parameter) not in owned:
                why = (
                    "no optimizer owns it: give it to one by add_param_group(), or build the "
                    "optimizer from all parameters"
                )
            if why:
                text = f"{name} was thawed, and does not train, because {why}"
                yield Finding(self.steps, "thaw-resumes", name, text)
        for name in unreduced(self._thawed):
            text = (
                f"{name} was thawed, but each rank trains it by itself, because "
                "DistributedDataParallel averages the gradients of what required grad when it was "
                "built: build it anew after each change of the mask"
            )
            yield Finding(self.steps, "ranks-agree", name, text)
        self._thawed = {}

    def _unmoved(self) -> Iterator[Finding]:
        """What was thawed, and has not moved in PATIENCE steps in which it had a gradient."""
        if not self._still:  # as in most steps
            return
        rates = {
            id(p): group.get("lr")
            for each in self.optimizers
            for group in each.param_groups
            for p in group["params"]
        }
        idle = []
        for name, thawed in [*self._still.items()]:
            parameter = thawed.parameter
            if changed(thawed.weights, digest([parameter])):
                del self._still[name]
            elif rates.get(id(parameter), 0) == 0:
                continue
            elif parameter.grad is None:
                thawed.idle += parameter.requires_grad  # else it is told why
                if thawed.idle == PATIENCE and not thawed.missed:
                    idle.append(name)
            elif _has_gradient(parameter):
                thawed.missed += 1
                if thawed.missed == PATIENCE:
                    text = (
                        f"{name} was thawed, and has not moved since, though it had a gradient in "
                        f"{PATIENCE} steps: see what `frostproof check` says of the optimizer"
                    )
                    yield Finding(self.steps, "thaw-resumes", name, text)
        if idle:  # which may be meant: a model need not use each layer
            stale = (
                ", or the model was compiled while they were frozen and runs that graph still: "
                "before torch 2.12, call torch._dynamo.reset() after each change of the mask"
            )
            self._warn(
                f"what was thawed got no gradient in {PATIENCE} steps ({listed(idle)}): the loss "
                f"does not depend on it{'' if torch_is('>=2.12') else stale}"
            )

    def _flag_and_gradient(self, i: int, now: Snapshot) -> Iterator[Finding]:
        name, first, last = self.frozen.names[i], self._first, self._last
        if now.flags[i] and self._between_masks:
            return
        if now.flags[i] and name in self._off:
            text = f"requires_grad of {name}, which is frozen, was set to True"
            if i in self.frozen.replaced:
                text = (
                    f"another parameter, which requires grad, took the place of the frozen {name}"
                )
            elif self._step is not None and not self._at_step.flags[i]:
                text = flags_untouched.FLIPPED.text.format(name=name, found=True)
            remedy = "call requires_grad_(False), or thaw() it here if it is to train"
            yield self._found("flags-untouched", i, f"{text}: {remedy}")
        elif now.has_gradient[i] and not (now.flags[i] or last.flags[i] or last.has_gradient[i]):
            yield self._found(
                "no-grad-allocated", i, no_grad_allocated.ALLOCATED.text.format(name=name)
            )
        if now.owned[i] and now.flags[i] and first.flags[i] and not first.owned[i]:
            text = f"the optimizer received {name}, which is frozen, and will train it"
            yield self._found("flags-untouched", i, f"{text}: call requires_grad_(False)")

    def _found(self, invariant: str, i: int, message: str) -> Finding:
        return Finding(self.steps, invariant, self.frozen.names[i], message)

    def _writer(self, i: int, now: Snapshot) -> str:
        """What wrote parameter `i` since the last look, as far as its version tells."""
        if self._step is None or self._last.versions[i] != self._at_step.versions[i]:
            return OUTSIDE
        if self._at_step.versions[i] != now.versions[i]:
            return "step()"
        return "step(), or something before it, wrote to .data and"

    def _moving(self, i: int, now: Snapshot) -> str:
        """How the values of parameter `i` changed, and what to do about it."""
        name = self.frozen.names[i]
        if i in self.frozen.removed:
            return f"{name}, which is frozen, is no longer in the model: look for what replaces it"
        if i in self.frozen.replaced:
            other = f"another parameter took the place of the frozen parameter {name}"
            return f"{other}: look for what replaces it, or its module"
        writer = self._writer(i, now)
        why = "look for what writes it, as load_state_dict does"
        if writer != OUTSIDE:
            why = self._why(i, now)
        return f"{writer} moved the frozen parameter {name}: {why}"

    def _why(self, i: int, now: Snapshot) -> str:
        """Why an optimizer would move parameter `i`, and what to do about it."""
        gradient = self.frozen.parameters[i].grad
        if not now.owned[i]:
            return "the optimizer does not own it; look for what writes it, as load_state_dict does"
        if gradient is None:
            return (
                "it has no gradient, and optimizers skip such parameters; leave it out of the "
                "optimizer, and see what `frostproof check` says of that"
            )
        if not gradient.any():
            return (
                "its gradient is zeros, with which an optimizer still decays weights, follows "
                "momentum and changes its state; set its grad to None, and call zero_grad() "
                "without set_to_none=False"
            )
        if now.flags[i] and self.frozen.names[i] in self._off:
            return (
                "its requires_grad was set to True; thaw() it here if it is to train, or else call "
                "requires_grad_(False), and set its grad to None"
            )
        return "it has a gradient; call requires_grad_(False), and set its grad to None"
