"""A training as plain statements: what a case becomes under one approach, for one subject, on one device.

Everything that can be known without running anything is decided here, once. The trial executes the statements with somebody
looking on (`frostproof.training.training`), and the script of a counterexample prints them (`frostproof.counterexamples.script`). What only
running can tell is a statement as well, with the `if` in it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec

from frostproof.approaches.approach import Approach
from frostproof.spec.architecture import expression
from frostproof.spec.case import Case, Positions, parameters_expression
from frostproof.spec.layers import SelfAttention, TransformerEncoderLayer
from frostproof.spec.program import (
    AnyEvent,
    BackwardUnderNoGrad,
    Clip,
    Eval,
    Freeze,
    SaveLoad,
    Schedule,
    Scheduler,
    SetLr,
    Step,
    Thaw,
    Train,
    ZeroGrad,
)
from frostproof.spec.subject import Subject
from frostproof.training.naming import Naming
from frostproof.training.source import At, Statement, block

SCALE = 1024.0

SCHEDULERS: dict[Scheduler, str] = {
    "StepLR": "StepLR(optimizer, step_size=1, gamma=0.5)",
    "LambdaLR": "LambdaLR(optimizer, lambda step: 0.5**step)",
    "OneCycleLR": "OneCycleLR(optimizer, max_lr=0.5, total_steps=64, pct_start=0.1, cycle_momentum=False)",
    "ReduceLROnPlateau": "ReduceLROnPlateau(optimizer, factor=0.5, patience=0)",
    "SequentialLR": (
        "SequentialLR(optimizer, [torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=1), "
        "torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)], milestones=[2])"
    ),
}
"""Learning rate schedulers, with settings under which each of the first steps changes the rate. ReduceLROnPlateau is told of a loss
that never gets better."""

HOOKS = {
    "freeze": "freeze",
    "thaw": "thaw",
    "clear": "clear",
    "between_passes": "between_passes",
    "companion": "second",
    "forward": "forward",
    "backward": "backward",
    "begin": "begin",
    "after_backward": "after_backward",
    "end": "end",
}
"""What an approach may override -> the function that the statements call in its place."""


class Ownership(NamedTuple):
    """What the optimizer holds: for each of its groups the members, in its order. `stepping`: whether there is one to call."""

    members: tuple[Positions, ...]
    stepping: bool

    @property
    def owned(self) -> Positions:
        return tuple(i for each in self.members for i in each)


class Masked(NamedTuple):
    """What is frozen; `paths`: of the layers that are frozen as a whole."""

    frozen: frozenset[int]
    paths: tuple[str, ...]


class Plan(NamedTuple):
    """The statements that build, and those of each event. `own`: hooks of the approach that they call as functions; `only`: whether
    they call `modules.only`."""

    built: list[Statement]
    events: list[list[Statement]]
    own: frozenset[str]
    only: bool


def lowered(
    case: Case,
    subject: Subject,
    approach: Approach,
    device: str,
    naming: Naming,
    *,
    resumes: bool = False,
) -> Plan:
    """The training of `case`. `resumes`: it goes through every checkpoint, which others pass by."""
    lowering = _Lowering(case, subject, approach, device, naming, resumes)
    built = lowering.build()
    events = [lowering.event(number, event) for number, event in enumerate(case.program)]
    return Plan(built, events, frozenset(lowering.own), lowering.only)


def accumulates(case: Case) -> bool:
    """Whether any step takes more than one batch."""
    return any(isinstance(event, Step) and event.micro_batches > 1 for event in case.program)


@cache
def templates(hook: Callable[..., Any]) -> tuple[str, ...] | None:
    """What a hook that only goes through the parameters does to each of them, with `{p}` for the parameter; else None.

    >>> templates(RequiresGrad.freeze)
    ('{p}.requires_grad_(False)',)
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(hook))).body
    assert isinstance(definition, ast.FunctionDef)
    if not (len(definition.body) == 1 and isinstance(loop := definition.body[0], ast.For)):
        return None
    return tuple(ast.unparse(each).replace("p.", "{p}.", 1) for each in loop.body)


class _Lowering:
    """Goes through the events of a case, keeping track of who owns what."""

    def __init__(
        self,
        case: Case,
        subject: Subject,
        approach: Approach,
        device: str,
        naming: Naming,
        resumes: bool,
    ) -> None:
        self.case, self.subject, self.approach, self.device, self.naming, self.resumes = (
            case,
            subject,
            approach,
            device,
            naming,
            resumes,
        )
        self.kind = device.partition(":")[0]
        self.frozen = set(case.initially_frozen)
        self.optimizer = False  # whether there is one
        self.rates: list[float] = []  # what SetLr multiplied by, for groups that come later
        self.schedulers: list[Scheduler] = []
        self.scaler = False
        self.grew = False  # whether a group was added
        self.mode = ""  # which the optimizer was told last
        self.number = -1
        self.own: set[str] = set()
        self.only = False
        self.layout: list[tuple[int, list[int]]] = []
        """For each group of the optimizer the group of the case that it comes from, and all members that it ever had."""
        self.held: dict[int, list[int]] = {}
        names = dict.fromkeys(
            event.scheduler for event in case.program if isinstance(event, Schedule)
        )
        self.titles = {
            name: "scheduler" if len(names) < 2 else f"scheduler_{i}"
            for i, name in enumerate(names)
        }
        attends = any(
            isinstance(place.layer, SelfAttention | TransformerEncoderLayer)
            for place in case.architecture.places
        )
        self.attends_twice = attends and subject.backward == "create-graph"

    # Who owns what

    @property
    def owned(self) -> list[int]:
        """Positions of the parameters that the optimizer holds, in its order."""
        return [i for place in range(len(self.layout)) for i in self._members(place)]

    @property
    def trainable(self) -> list[int]:
        return [i for i in range(len(self.case.parameters)) if i not in self.frozen]

    @property
    def stepping(self) -> bool:
        """Whether there is an optimizer to call."""
        return self.optimizer and bool(self.owned)

    @property
    def fused(self) -> bool:
        """Whether the optimizer runs the backward pass, and steps within it."""
        return self.subject.backward == "fused" and self.stepping

    def _newcomers(self, known: Collection[int]) -> list[tuple[int, list[int]]]:
        """What the optimizer is to own and does not know, by the groups of the case."""
        found = []
        for number, group in enumerate(self.case.groups):
            positions = map(self.case.positions.__getitem__, group.parameters)
            members = [
                i for i in positions if i not in known and self.approach.owns(i in self.frozen)
            ]
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

    def _owned_mark(self) -> At:
        members = tuple(
            tuple(self.approach.arranged(self._members(place))) for place in range(len(self.layout))
        )
        return At(
            "owned",
            "",
            Ownership(members if self.subject.factory is not None else (), self.stepping),
        )

    def _masked(self) -> Masked:
        places = self.case.architecture.places
        paths = tuple(
            place.path for place in places if place.uses and self.frozen.issuperset(place.uses)
        )
        return Masked(frozenset(self.frozen), paths)

    # Words

    def name(self, i: int) -> str:
        return expression(self.case.parameters[i].name)

    def _list(self, positions: Iterable[int]) -> str:
        return parameters_expression(self.case, positions)

    def _some(self, positions: Iterable[int]) -> str:
        """A list of these parameters, for a function that may go through it more than once."""
        listed = self._list(positions)
        return listed if listed.startswith("[") else f"list({listed})"

    def _each(self, positions: Iterable[int], *does: str) -> list[Statement]:
        """Each template, with `{p}` for the parameter, done to each of them."""
        positions = list(positions)
        if not positions:
            return []
        listed = self._list(positions)
        if listed.endswith(".parameters()") and all(
            each.startswith("{p}.requires_grad_(") for each in does
        ):
            return [each.replace("{p}", listed.removesuffix(".parameters()")) for each in does]
        if len(positions) == 1 and all(each.count("{p}") == 1 for each in does):
            return [each.format(p=self.name(positions[0])) for each in does]
        return [block(f"for p in {listed}:", *(each.format(p="p") for each in does))]

    def _hook(
        self, name: str, positions: Iterable[int], *before: str, kept: str = ""
    ) -> list[Statement]:
        """What the approach does here to the parameters at these positions, if it does anything."""
        method = getattr(type(self.approach), name)
        if method is getattr(Approach, name):
            return []
        does = templates(method) if method.__module__ == Approach.__module__ else None
        if does is not None:
            return self._each(positions, *does)
        self.own.add(name)
        return [f"{kept}{HOOKS[name]}({', '.join((*before, self._some(positions)))})"]

    def _calls(self, name: str) -> bool:
        """Whether the approach has its own way to do this, which is then called as a function."""
        overrides = getattr(type(self.approach), name) is not getattr(Approach, name)
        if overrides:
            self.own.add(name)
        return overrides

    # The model and its optimizer

    def build(self) -> list[Statement]:
        """The freezing of the new model, and its optimizer."""
        late = self._hook("freeze", sorted(self.frozen), "model") if self.approach.late else []
        early = [] if self.approach.late else self._hook("freeze", sorted(self.frozen), "model")
        self.layout = self._newcomers(frozenset())
        group = 'torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)'
        return [
            *(
                [block("if not torch.distributed.is_initialized():", group)]
                if self.subject.distributed
                else []
            ),
            f"model = network({self.case.seed})",
            At("network"),
            f"# {' '.join((type(self.approach).__doc__ or type(self.approach).__name__).split())}",
            *early,
            *(self._eval_frozen() if self.case.frozen_in_eval else []),
            At("built", "", self._masked()),
            At("build"),
            *self._construction(),
            *self._companion(),
            self._owned_mark(),
            *late,
            *([At("changed", "", self._masked())] if late else []),
        ]

    def _construction(self) -> list[Statement]:
        subject, case = self.subject, self.case
        self.optimizer = bool(self.layout) and subject.factory is not None
        self.held = {place: self._members(place) for place in range(len(self.layout))}
        if subject.factory is None:
            return []
        if not self.optimizer:
            return ["optimizer = None  # nothing to own"]
        factory = self.naming.of(subject.factory, subject.target)
        arguments = self.naming.keywords({**subject.arguments, **dict(case.groups[0].options)})
        first = self._handed()
        if subject.base is not None:
            first = f"{self.naming.of(subject.base)}({first})"
        self.mode = ""
        return [
            f"optimizer = {factory}({', '.join((first, *arguments))})",
            *self._switched("train", ""),
        ]

    def _handed(self) -> str:
        """What the optimizer is built from."""
        groups = [(number, self._members(place)) for place, (number, _) in enumerate(self.layout)]
        if self.subject.takes == "model":
            return self._module(sorted(self.owned))
        if self.subject.takes == "two-lists":
            matrices = [i for i in self.owned if len(self.case.parameters[i].shape) == 2]
            return f"{self._some(matrices)}, {self._some([i for i in self.owned if i not in matrices])}"
        if (
            len(groups) == len(self.case.groups) == 1
            and self.subject.keys is None
            and not self.approach.options(True)
        ):
            return self._listed(groups[0][1])
        return f"[{', '.join(self._group(number, members) for number, members in groups)}]"

    def _module(self, members: list[int]) -> str:
        if len(members) == len(self.case.parameters):
            return "model"
        self.only = True
        return f"only(model, {', '.join(self.naming.value(self.case.parameters[i].name) for i in members)})"

    def _listed(self, members: Iterable[int]) -> str:
        """What a group holds: parameters, or pairs with their names."""
        members = self.approach.arranged([*members])
        if self.subject.takes != "named-parameters":
            return self._list(members)
        if self._list(members) == "model.parameters()":
            return "model.named_parameters()"
        return f"[{', '.join(f'({self.naming.value(self.case.parameters[i].name)}, {self.name(i)})' for i in members)}]"

    def _group(self, number: int, members: list[int]) -> str:
        options = {
            **dict(self.case.groups[number].options),
            **(self._keys(members[0]) if members else {}),
        }
        words = [
            f'"params": {self._listed(members)}',
            *(f'"{key}": {self.naming.value(value)}' for key, value in options.items()),
        ]
        return f"{{{', '.join(words)}}}"

    def _companion(self) -> list[Statement]:
        if not self.frozen or not self._calls("companion"):
            return []
        return [f"companion = second({self._some(sorted(self.frozen))})"]

    def _switched(self, mode: str, phase: str | None = None) -> list[Statement]:
        """Tell the optimizer its mode, unless it was told before."""
        if not (self.subject.modes and self.optimizer and self.mode != mode):
            return []
        self.mode = mode
        return [
            *([] if phase == "" else [At(phase or mode)]),
            f"optimizer.{mode}()",
            At("switched"),
        ]

    # Freezing and thawing

    def _change(self, event: Freeze | Thaw) -> list[Statement]:
        named = map(self.case.positions.__getitem__, event.names)
        found: list[Statement] = []
        if isinstance(event, Freeze):
            changed = [i for i in named if i not in self.frozen]
            self.frozen |= {*changed}
            found += self._hook("freeze", changed, "model")
            if event.gradient == "none":
                found += self._each(changed, "{p}.grad = None")
            elif event.gradient == "zeros" and changed:
                text = f"for p in {self._list(changed)}:"
                found.append(
                    block(
                        text, block("if p.grad is not None:", "p.grad = torch.zeros_like(p.grad)")
                    )
                )
        else:
            changed = [i for i in named if i in self.frozen]
            self.frozen -= {*changed}
        follows = (
            [At("regroup"), *self._follow(), *self._companion(), self._owned_mark()]
            if changed
            else []
        )
        thaws = [] if isinstance(event, Freeze) else self._hook("thaw", changed)
        found += [*follows, *thaws] if self.approach.adds_first else [*thaws, *follows]
        return [*found, At("changed", "", self._masked())] if changed else found

    def _follow(self) -> list[Statement]:
        newcomers = self._newcomers({i for _, members in self.layout for i in members})
        if self.subject.factory is None or self.approach.follows == "nothing":
            self.layout = self._newcomers(frozenset())
            return []
        regroups = (
            self.approach.follows != "rebuild"
            and self.subject.per_parameter
            and not (newcomers and not self.subject.groups)
        )
        return self._edit(newcomers) if self.optimizer and regroups else self._rebuild()

    def _edit(self, newcomers: Sequence[tuple[int, list[int]]]) -> list[Statement]:
        found: list[Statement] = []
        for place in range(len(self.layout)):
            members = self._members(place)
            if members == self.held[place]:
                continue
            self.held[place] = members
            group = f"optimizer.param_groups[{place}]"
            # In place: an optimizer may hold on to the list.
            found.append(f'{group}["params"][:] = {self._list(self.approach.arranged(members))}')
            if self.subject.takes == "named-parameters":
                names = ", ".join(
                    self.naming.value(self.case.parameters[i].name)
                    for i in self.approach.arranged(members)
                )
                found.append(
                    block(f'if "param_names" in {group}:', f'{group}["param_names"][:] = [{names}]')
                )
        for number, members in newcomers:
            found.append(f"optimizer.add_param_group({self._group(number, members)})")
            self.held[len(self.layout)] = members
            self.layout.append((number, members))
            found += [
                statement
                for factor in self.rates
                for statement in self._rescaled(factor, "optimizer.param_groups[-1:]")
            ]
            found.append(At("added", "", tuple(members)))
            self.grew = True
            self.mode = ""  # it may keep its mode in each group
        return [*found, *(self._switched("train", "") if newcomers else [])]

    def _rebuild(self) -> list[Statement]:
        first, groups = not self.optimizer, tuple(number for number, _ in self.layout)
        self.layout = self._newcomers(frozenset())
        found: list[Statement] = [At("replacing")]
        if self.subject.backward == "fused":
            # The old optimizer hung hooks on the parameters, with which it would go on stepping.
            hooks = ("p._backward_hooks", "p._post_accumulate_grad_hooks")
            found.append(
                block(
                    "for p in model.parameters():",
                    *(block(f"if {hook}:", f"{hook}.clear()") for hook in hooks),
                )
            )
        found += self._construction()
        if first and self.optimizer:
            found += [statement for factor in self.rates for statement in self._rescaled(factor)]
        self.schedulers = []
        return [*found, At("rebuilt", "", (groups, tuple(number for number, _ in self.layout)))]

    def _rescaled(self, factor: float, groups: str = "optimizer.param_groups") -> list[Statement]:
        """Multiply the learning rates of groups; there are optimizers that have none."""
        if not self.optimizer:
            return []
        test = block('if group.get("lr") is not None:', f'group["lr"] = group["lr"] * {factor!r}')
        return [block(f"for group in {groups}:", test)]

    # Events

    def event(self, number: int, event: AnyEvent) -> list[Statement]:
        """The statements of one event, between marks. Those that draw a batch begin with it."""
        self.number = number
        drawn: list[Statement] = [At("seed", "", self.seed)]
        match event:
            case Step():
                drawn = [self._drawn(event.micro_batches)]
                found = [*self._switched("train"), *self._step(event)]
            case Freeze() | Thaw():
                found = [*self._switched("train"), *self._change(event)]
            case ZeroGrad():
                found = self._zero_grad(event)
            case BackwardUnderNoGrad():
                drawn = [self._drawn(1)]
                found = [*self._switched("train"), *self._backward_under_no_grad()]
            case SaveLoad():
                found = self._resume() if self.resumes else []
            case SetLr():
                self.rates.append(event.factor)
                found = self._rescaled(event.factor)
            case Schedule():
                found = self._schedule(event)
            case Train():
                found = ["model.train()", *self._switched("train"), At("modes")]
            case Eval(only_frozen=True):
                found = [*self._eval_frozen(), At("modes")]
            case Eval():
                found = ["model.eval()", *self._switched("eval"), At("modes")]
        return [*drawn, At("before"), *found, At("end")]

    @property
    def seed(self) -> int:
        return self.case.seed * 1000 + self.number + 1

    def _drawn(self, passes: int) -> Statement:
        if not accumulates(self.case):
            return f"x, y = batch({self.seed})"
        return (
            f"batches = draw({self.seed}, {passes})"
            if passes > 1
            else f"((x, y),) = draw({self.seed}, 1)"
        )

    def _step(self, event: Step) -> list[Statement]:
        if self.device == "meta":
            event = msgspec.structs.replace(event, amp="none")  # there is no autocast on meta
        begin = self._hook(
            "begin", sorted(self.frozen), kept="kept = " if self._calls("end") else ""
        )
        if not (self.stepping and event.closure):
            found = [*begin, *self._compute(event)]
            if not self.stepping:
                self.scaler = (
                    self.scaler and not event.scaled
                )  # nothing told it whether the scale was too large
                return found
            return [*found, At("step"), *self._plain_step(event), *self._ended(begin)]
        first = self._compute(event) if self.subject.closure == "after-backward" else []
        loss = "total" if event.micro_batches > 1 else "loss"
        closure = block(
            "def closure():",
            At("called"),
            *self._compute(event),
            At("returning", loss),
            f"return {loss}",
        )
        call: list[Statement] = ["returned = optimizer.step(closure)", At("returned", "returned")]
        return [*begin, *first, closure, At("step"), *call, *self._ended(begin)]

    def _ended(self, begin: list[Statement]) -> list[Statement]:
        if not self._calls("end"):
            return []
        return [f"end({self._some(sorted(self.frozen))}, {'kept' if begin else None})"]

    def _compute(self, event: Step) -> list[Statement]:
        found = [*self._clear(event.set_to_none, event.zeroed_by), At("cleared")]
        if event.micro_batches > 1 and event.closure:
            found.append("total = 0")
        between = (
            self._hook("between_passes", sorted(self.frozen)) if event.micro_batches > 1 else []
        )
        if event.micro_batches > 1 and (event.after_forward or between):
            for number in range(event.micro_batches):
                last = number == event.micro_batches - 1
                found += [
                    *(between if number else []),
                    f"x, y = batches[{number}]",
                    *self._pass(event, last=last),
                ]
        elif event.micro_batches > 1:
            found.append(block("for x, y in batches:", *self._pass(event)))
        else:
            found += self._pass(event)
        return (
            found if self.fused else [*found, *self._after_backward(event)]
        )  # a fused pass has used its gradients up

    def _after_backward(self, event: Step) -> list[Statement]:
        found: list[Statement] = [
            At("gradients"),
            *self._hook("after_backward", sorted(self.frozen)),
        ]
        found += self._each(self._dropped(event), "{p}.grad = None")
        unscaled = not event.scaled
        for each in event.after_backward:
            if not isinstance(each, Clip):
                found += self._change(each)
                continue
            if not unscaled and self.stepping:
                found.append("scaler.unscale_(optimizer)")
                unscaled = True
            found += self._clip(each)
        return [*found, At("handed")]

    def _pass(self, event: Step, *, last: bool = True) -> list[Statement]:
        divided = f" / {event.micro_batches}" if event.micro_batches > 1 else ""
        found = self._forward(event.amp != "none", divided)
        # With gradients disabled, a closure's loss has no graph: that is for closure-is-honoured to say, and no crash.
        differentiable = self._has_graph() and not event.closure
        for each in event.after_forward if last else ():
            found += self._change(each)
        scaled = "loss"
        if event.scaled:
            if not self.scaler:
                found.append(self._new_scaler())
                self.scaler = True
            if event.amp == "overflow":
                # The first builds the scale, which update() then replaces.
                found += ["scaler.scale(loss.detach())", 'scaler.update(float("inf"))']
            scaled = "scaler.scale(loss)"
        test: list[Statement] = [self._backward(scaled)]
        if not differentiable and event.scaled:
            test = [
                "scaled = scaler.scale(loss)",
                block("if scaled.requires_grad:", self._backward("scaled")),
            ]
        elif not differentiable:
            test = [block("if loss.requires_grad:", *test)]
        found += [At("backward", "loss"), *test, *([] if self.fused else [At("pass")])]
        return [*found, *(["total += loss.detach()"] if divided and event.closure else [])]

    def _backward(self, loss: str) -> str:
        if self.fused:
            return f"optimizer.fused_backward({loss}{self._rate_for_fused()})"
        if self.subject.backward == "create-graph":
            return f"{loss}.backward(create_graph=True)"
        return (
            f"backward({loss}, {self._some(self.trainable)})"
            if self._calls("backward")
            else f"{loss}.backward()"
        )

    def _rate_for_fused(self) -> str:
        """The learning rate, where fused_backward asks for one; of what a function builds, only a look at it tells."""
        method, rate = (
            getattr(self.subject.factory, "fused_backward", None),
            'optimizer.param_groups[0]["lr"]',
        )
        if method is not None:
            return f", lr={rate}" if "lr" in inspect.signature(method).parameters else ""
        self.naming.imports.add("import inspect")
        return f', **({{"lr": {rate}}} if "lr" in inspect.signature(optimizer.fused_backward).parameters else {{}})'

    def _has_graph(self) -> bool:
        """Whether something upstream of the loss surely requires grad."""
        methods = [
            getattr(type(self.approach), name)
            for name in ("freeze", "thaw", "between_passes", "forward")
        ]
        if any(method.__module__ != Approach.__module__ for method in methods):
            return False
        by_flag = type(self.approach).freeze is not Approach.freeze
        return self.case.architecture.graph(
            self.frozen if by_flag else (), self.case.differentiable_input
        )[-1]

    def _forward(self, autocast: bool, divided: str = "") -> list[Statement]:
        samples = (
            "x.clone()"
            if self.case.architecture.places[0].layer.overwritable is False
            and self.case.differentiable_input
            else "x"
        )
        outputs = (
            f"forward(model, {samples}, {self._some(sorted(self.frozen))})"
            if self._calls("forward")
            else f"model({samples})"
        )
        found: list[Statement] = [f"loss = nn.functional.mse_loss({outputs}, y){divided}"]
        if autocast:
            found = [
                block(
                    f'with torch.autocast("{self.kind}", dtype=torch.bfloat16):',
                    f"outputs = {outputs}",
                ),
                f"loss = nn.functional.mse_loss(outputs.to(y.dtype), y){divided}",
            ]
        if self.attends_twice:  # fused attention cannot be differentiated twice
            found = [
                block(
                    "with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):",
                    *found,
                )
            ]
        return [At("forward"), *found, At("loss", "loss")]

    def _new_scaler(self) -> str:
        return f'scaler = torch.amp.GradScaler("{self.kind}", init_scale={SCALE})'

    def _plain_step(self, event: Step) -> list[Statement]:
        if self.subject.backward == "fused":
            return []
        if not event.scaled:
            return ["optimizer.step()"]
        calls: list[Statement] = [
            "scaler.step(optimizer)",
            f"scaler.update({SCALE if event.amp == 'overflow' else ''})",
        ]
        if self._surely_has_gradients(event):
            return calls
        # Without a single gradient torch refuses, and what the scaler knows is void.
        test = block(f"if any(p.grad is not None for p in {self._list(self.owned)}):", "raise")
        return [
            block("try:", *calls),
            block(
                "except AssertionError as error:", At("refused", "error"), test, self._new_scaler()
            ),
        ]

    def _surely_has_gradients(self, event: Step) -> bool:
        """Whether at least one owned parameter surely has a gradient at this step."""
        hooks = ("freeze", "thaw", "between_passes", "forward", "backward", "after_backward")
        if (
            any(
                getattr(type(self.approach), hook).__module__ != Approach.__module__
                for hook in hooks
            )
            or event.mask_changes
        ):
            return False
        flagged = self.frozen if type(self.approach).freeze is not Approach.freeze else ()
        reached = self.case.architecture.reached(flagged, self.case.differentiable_input) - {
            *self._dropped(event)
        }
        return not reached.isdisjoint(self.owned)

    def _clear(self, set_to_none: bool, by: str = "optimizer") -> list[Statement]:
        arguments = "" if set_to_none else "set_to_none=False"
        if by == "model":
            return [At("zero_grad"), f"model.zero_grad({arguments})"]
        found: list[Statement] = [At("zero_grad")]
        if self.stepping:
            found.append(
                f"optimizer.zero_grad({'' if 'set_to_none' in self.subject.unable else arguments})"
            )
        if self.frozen and self._calls("companion"):
            found.append(f"companion.zero_grad({arguments})")
        found += self._hook("clear", sorted(self.frozen))
        if self.subject.factory is None:
            whole = len(self.owned) == len(self.case.parameters)
            found += ["model.zero_grad()"] if whole else self._each(self.owned, "{p}.grad = None")
        return found

    def _dropped(self, event: Step) -> list[int]:
        trainable = self.trainable
        return {"none": [], "first": trainable[:1], "last": trainable[-1:], "all": trainable}[
            event.drop
        ]

    def _clip(self, event: Clip) -> list[Statement]:
        listed = self._list(sorted(self.owned)) if event.over == "owned" else "model.parameters()"
        if event.by == "norm":
            return [
                *([At("clip")] if event.over == "all" else []),
                f"nn.utils.clip_grad_norm_({listed}, {event.limit!r})",
            ]
        # Without any gradient torch raises.
        call = f"nn.utils.clip_grad_value_({listed}, {event.limit!r})"
        return [block(f"if any(p.grad is not None for p in {listed}):", call)]

    def _zero_grad(self, event: ZeroGrad) -> list[Statement]:
        return [
            *self._each(self.owned, "{p}.grad = torch.ones_like({p})"),
            *self._clear(event.set_to_none),
            At("cleared"),
            *self._each(self.owned, "{p}.grad = None"),
        ]

    def _backward_under_no_grad(self) -> list[Statement]:
        found = [
            *self._clear(True),
            At("cleared"),
            block("with torch.no_grad():", *self._forward(False)),
        ]
        found += [
            At("backward", "loss"),
            block("if loss.requires_grad:", self._backward("loss")),
            At("handed"),
        ]
        if self.stepping and not self.fused:
            call = (
                "optimizer.step(lambda: loss)" if self.subject.needs_closure else "optimizer.step()"
            )
            found += [At("step"), call]
        return found

    def _eval_frozen(self) -> list[Statement]:
        return [f"{expression(path)}.eval()" for path in self._masked().paths]

    def _schedule(self, event: Schedule) -> list[Statement]:
        if not self.optimizer:
            return []
        found: list[Statement] = [At("schedule")]
        name = self.titles[event.scheduler]
        if event.scheduler not in self.schedulers:
            self.schedulers.append(event.scheduler)
            found.append(f"{name} = torch.optim.lr_scheduler.{SCHEDULERS[event.scheduler]}")
        step = f"{name}.step({'1.0' if event.scheduler == 'ReduceLROnPlateau' else ''})"
        if self.grew:  # torch's schedulers break on groups that they were not built with
            self.naming.imports.add("import contextlib")
            return [*found, block("with contextlib.suppress(Exception):", step)]
        return [*found, step]

    # Checkpoints

    def _resume(self) -> list[Statement]:
        """Go on with a new model and optimizer, which know of the old ones only what was saved.

        Gradients are not part of a checkpoint. They are carried over by hand, so that nothing else tells the two apart.
        """
        if self.optimizer and not all(map(self._members, range(len(self.layout)))):
            return []  # one would not save an optimizer with an empty group
        self.naming.imports |= {"import io", "import torch"}
        left = [i for i in self.case.frozen_midway if i not in self.owned] if self.optimizer else []
        there = {"model": True, "optimizer": self.optimizer, "scaler": self.scaler}
        parts = [
            *(part for part, is_there in there.items() if is_there),
            *(self.titles[name] for name in self.schedulers),
        ]
        found: list[Statement] = [At("load"), *self._set_aside(left)]
        found += [
            "file = io.BytesIO()",
            f"torch.save({{{', '.join(map(_saved, parts))}}}, file)",
            "file.seek(0)",
            "saved = torch.load(file, weights_only=False)",
            "old = model",
            f"model = network({self.case.seed + 1})",
            At("network"),
            'model.load_state_dict(saved["model"])',
            *self._hook("freeze", sorted(self.frozen), "model"),
            block(
                "for new, known in zip(model.modules(), old.modules()):",
                "new.training = known.training",
            ),
            block(
                "for p, known in zip(model.parameters(), old.parameters()):", "p.grad = known.grad"
            ),
            At("built", "", self._masked()),
            *self._construction_without_mode(),
        ]
        found += [
            f"{self.titles[name]} = torch.optim.lr_scheduler.{SCHEDULERS[name]}"
            for name in self.schedulers
        ]
        if self.optimizer:
            found += ['optimizer.load_state_dict(saved["optimizer"])', *self._switched("train", "")]
        if left:
            found.append(
                block(
                    "for name, state in aside.items():",
                    "optimizer.state[model.get_parameter(name)] = state",
                )
            )
        found += [
            f'{part}.load_state_dict(saved["{part}"])'
            for part in parts
            if part.startswith("scheduler")
        ]
        if self.scaler:
            found += [self._new_scaler(), 'scaler.load_state_dict(saved["scaler"])']
        return [*found, *self._companion(), self._owned_mark(), At("resumed")]

    def _construction_without_mode(self) -> list[Statement]:
        """The new optimizer is told its mode when it is built, and once more behind load_state_dict, as some insist."""
        found = self._construction()
        self.mode = ""
        return found

    def _set_aside(self, left: list[int]) -> list[Statement]:
        """With the state of what its groups no longer hold, an optimizer's state_dict() raises KeyError."""
        if not left:
            return []
        names = ", ".join(self.naming.value(self.case.parameters[i].name) for i in left)
        return [
            f"named = {{name: model.get_parameter(name) for name in [{names}]}}",
            "aside = {name: optimizer.state.pop(p) for name, p in named.items() if p in optimizer.state}",
        ]


def _saved(part: str) -> str:
    return f'"{part}": {part}.state_dict()'
