"""A training written down in place of run: the events of a case under one approach, as plain torch statements.

It follows `frostproof.training` step by step. Where that asks the optimizer, this knows from the case.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from torch.optim import Optimizer

from frostproof.approach import (
    Approach,
    OptimizerSubset,
    RequiresGrad,
    RequiresGradReversed,
    SubsetCleared,
    SubsetRebuilt,
    SubsetSecondOptimizer,
)
from frostproof.case import Case
from frostproof.observation import Crash
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
from frostproof.reproducer.approaches import overridden
from frostproof.reproducer.naming import Naming
from frostproof.reproducer.network import expression, parameters
from frostproof.reproducer.source import Statement, block
from frostproof.subject import Subject
from frostproof.training import SCALE, Training

Notes = Mapping[tuple[int, str], list[Statement]]
"""What an assertion wants to know, as statements, by event and by point within it: `before` it, when the gradients are
`cleared`, after each `pass`, when it has its `gradients`, when they are `handed` to the optimizer, `returning` from a closure,
and at its `end`; `called` is the beginning of a closure, and `stepped` takes the place of the call of step(closure)."""

WHY = {
    RequiresGrad: "A: requires_grad=False on what is frozen, every parameter to the optimizer",
    RequiresGradReversed: "A with each group in reverse order",
    OptimizerSubset: "B: only what trains goes to the optimizer, requires_grad untouched",
    SubsetCleared: "B, with the gradients of what is frozen cleared too",
    SubsetSecondOptimizer: "B, with a second optimizer that only clears what is frozen",
    SubsetRebuilt: "B, with a new optimizer for each mask",
}

SCHEDULERS = {
    "StepLR": "StepLR(optimizer, step_size=1, gamma=0.5)",
    "LambdaLR": "LambdaLR(optimizer, lambda step: 0.5**step)",
    "OneCycleLR": "OneCycleLR(optimizer, max_lr=0.5, total_steps=64, pct_start=0.1, cycle_momentum=False)",
    "ReduceLROnPlateau": "ReduceLROnPlateau(optimizer, factor=0.5, patience=0)",
    "SequentialLR": (
        "SequentialLR(optimizer, [torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=1), "
        "torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)], milestones=[2])"
    ),
}
"""`frostproof.schedulers` as text."""


class Transcript:
    """`built` and then each `event`, in order, give the statements. Raises Unprintable.

    `guard` is a crash that the script must catch, with the statement that then ends it.
    """

    def __init__(
        self,
        case: Case,
        subject: Subject,
        approach: Approach,
        device: str,
        naming: Naming,
        notes: Notes,
        *,
        resumes: bool = False,
        guard: tuple[Crash, str] | None = None,
    ) -> None:
        self.own = overridden(approach)
        self.case, self.subject, self.approach, self.device = case, subject, approach, device
        self.naming, self.notes, self.resumes, self.guard = naming, notes, resumes, guard
        self.frozen = set(case.frozen)
        self.rates: list[float] = []
        self.schedulers: list[str] = []
        self.scaler = self.grew = self.cleared_all = False
        self.number = -1
        self.requests: set[str] = set()  # helpers that the script needs
        self.switches, self.rated, self.mode = _abilities(case, subject, device)
        self.layout = self._newcomers(frozenset())
        self.optimizer = False

    # What the approach decides, as in Training

    @property
    def owned(self) -> list[int]:
        return [i for place in range(len(self.layout)) for i in self._members(place)]

    @property
    def stepping(self) -> bool:
        """Whether there is an optimizer to call."""
        return self.optimizer and bool(self.owned)

    def _newcomers(self, known: Collection[int]) -> list[tuple[int, list[int]]]:
        found = []
        for number, group in enumerate(self.case.groups):
            positions = map(self.case.positions.__getitem__, group.parameters)
            members = [i for i in positions if i not in known and self.approach.owns(i in self.frozen)]
            found += [(number, alike) for alike in self._alike(members)]
        return found

    def _alike(self, members: list[int]) -> list[list[int]]:
        """Members of one group, apart where the approach has options of its own for them."""
        if not self.approach.options(True):
            return [members] if members else []
        apart = [
            [i for i in members if (i in self.frozen) == frozen] for frozen in (members[0] in self.frozen, members[0] not in self.frozen)
        ]
        return [alike for alike in apart if alike]

    def _members(self, place: int) -> list[int]:
        return [i for i in self.layout[place][1] if self.approach.owns(i in self.frozen)]

    # Names

    def name(self, i: int) -> str:
        return expression(self.case.parameters[i].name)

    def _list(self, positions: Iterable[int]) -> str:
        return parameters(self.case, positions)

    def _each(self, positions: Iterable[int], *templates: str) -> list[Statement]:
        """Each template, with `p` for the parameter, done to each of them."""
        positions = list(positions)
        if not positions:
            return []
        if len(positions) == 1 and all(template.count("{p}") == 1 for template in templates):
            return [template.format(p=self.name(positions[0])) for template in templates]
        return [block(f"for p in {self._list(positions)}:", *(template.format(p="p") for template in templates))]

    # Statements

    def _at(self, point: str) -> list[Statement]:
        return list(self.notes.get((self.number, point), ()))

    def _guarded(self, phase: str, *statements: Statement) -> list[Statement]:
        """The statements, inside `try` where the crash came from here."""
        if self.guard is None or not statements:
            return list(statements)
        crash, leave = self.guard
        if (crash.index, crash.phase) != (self.number, phase):
            return list(statements)
        kind = type(crash.error).__name__
        known = kind if getattr(builtins, kind, None) is type(crash.error) else "Exception"
        return [block("try:", *statements), block(f"except {known} as error:", leave)]

    def built(self) -> list[Statement]:
        """The freezing of the new model, and its optimizer."""
        return [
            f"# {_why(self.approach)}",
            *([] if self.approach.late else self._freezing(sorted(self.frozen))),
            *(self._eval_frozen() if self.case.frozen_in_eval else []),
            *self._guarded("build", *self._construction()),
            *self._companion(),
            *(self._freezing(sorted(self.frozen)) if self.approach.late else []),
        ]

    def _freezing(self, positions: Iterable[int]) -> list[Statement]:
        if "freeze" in self.own:
            return [f"freeze(model, {self._some(positions)})"]
        return self._flagged(positions, False) if isinstance(self.approach, RequiresGrad) else []

    def _some(self, positions: Iterable[int]) -> str:
        """A list of these parameters, for a function that may go through it more than once."""
        listed = self._list(positions)
        return listed if listed.startswith("[") else f"list({listed})"

    def _flagged(self, positions: Iterable[int], flag: bool) -> list[Statement]:
        positions = list(positions)
        listed = self._list(positions)
        if listed.endswith(".parameters()") and positions:
            return [f"{listed.removesuffix('.parameters()')}.requires_grad_({flag})"]
        return self._each(positions, f"{{p}}.requires_grad_({flag})")

    def _construction(self) -> list[Statement]:
        self.optimizer = bool(self.layout) and self.subject.factory is not None
        self.held = {place: self._members(place) for place in range(len(self.layout))}
        if not self.optimizer:
            return ["optimizer = None  # nothing to own"] if self.subject.factory is not None else []
        subject, case = self.subject, self.case
        assert subject.factory is not None
        factory = self.naming.of(subject.factory, subject.target)
        arguments = self.naming.keywords({**subject.arguments, **dict(case.groups[0].options)})
        plain = len(self.layout) == len(case.groups) == 1 and subject.keys is None and not self.approach.options(True)
        if subject.takes == "model":
            first = self._module(self.owned)
        elif plain:
            first = self._handed(self._members(0))
        else:
            first = f"[{', '.join(self._group(number, self._members(place)) for place, (number, _) in enumerate(self.layout))}]"
        if subject.takes == "optimizer":
            first = f"{self.naming.of(subject.base)}({first})"
        self.mode = "train"
        return [f"optimizer = {factory}({', '.join((first, *arguments))})", *(["optimizer.train()"] if self.switches else [])]

    def _handed(self, members: Iterable[int]) -> str:
        """What a group holds, or the optimizer itself receives: parameters, or pairs with their names."""
        members = [*members]
        if isinstance(self.approach, RequiresGradReversed):
            members.reverse()
        if self.subject.takes != "named-parameters":
            return self._list(members)
        if self._list(members) == "model.parameters()":
            return "model.named_parameters()"
        return f"[{', '.join(f'({self.naming.value(self.case.parameters[i].name)}, {self.name(i)})' for i in members)}]"

    def _module(self, members: list[int]) -> str:
        if len(members) == len(self.case.parameters):
            return "model"
        self.requests.add("only")
        names = ", ".join(self.naming.value(self.case.parameters[i].name) for i in members)
        return f"only(model, {names})"

    def _group(self, number: int, members: list[int]) -> str:
        options: dict[str, Any] = dict(self.case.groups[number].options)
        if self.subject.keys is not None and members:
            first = self.case.parameters[members[0]]
            options |= self.subject.keys(first.name, first.shape)
        options |= self.approach.options(bool(members) and members[0] in self.frozen)
        words = [f'"params": {self._handed(members)}', *(f'"{key}": {self.naming.value(value)}' for key, value in options.items())]
        return f"{{{', '.join(words)}}}"

    def _companion(self) -> list[Statement]:
        if "companion" in self.own:
            return [f"companion = second({self._some(sorted(self.frozen))})"]
        if not isinstance(self.approach, SubsetSecondOptimizer) or not self.frozen:
            return []
        return [f"companion = torch.optim.SGD({self._list(sorted(self.frozen))}, lr=1.0)"]

    def _switched(self, mode: str) -> list[Statement]:
        if not (self.switches and self.optimizer and self.mode != mode):
            return []
        self.mode = mode
        return self._guarded(mode, f"optimizer.{mode}()")

    # Freezing and thawing

    def _change(self, event: Freeze | Thaw) -> list[Statement]:
        named = map(self.case.positions.__getitem__, event.names)
        found: list[Statement] = []
        if isinstance(event, Freeze):
            changed = [i for i in named if i not in self.frozen]
            self.frozen |= {*changed}
            found += self._freezing(changed)
            if event.gradient == "none":
                found += self._each(changed, "{p}.grad = None")
            elif event.gradient == "zeros" and changed:
                text = f"for p in {self._list(changed)}:"
                found.append(block(text, block("if p.grad is not None:", "p.grad = torch.zeros_like(p.grad)")))
        else:
            changed = [i for i in named if i in self.frozen]
            self.frozen -= {*changed}
            if "thaw" in self.own:
                found.append(f"thaw({self._some(changed)})")
            elif isinstance(self.approach, RequiresGrad):
                found += self._flagged(changed, True)
        if changed:
            found += self._guarded("regroup", *self._follow()) + self._companion()
        return found

    def _follow(self) -> list[Statement]:
        newcomers = self._newcomers({i for _, members in self.layout for i in members})
        if self.subject.factory is None or self.approach.follows == "nothing":
            self.layout = self._newcomers(frozenset())
            return []
        regroups = self.approach.follows != "rebuild" and self.subject.per_parameter and not (newcomers and not self.subject.groups)
        if not self.optimizer or not regroups:
            return self._rebuild()
        return self._edit(newcomers)

    def _edit(self, newcomers: Iterable[tuple[int, list[int]]]) -> list[Statement]:
        found: list[Statement] = []
        for place in range(len(self.layout)):
            members = self._members(place)
            if members != self.held[place]:
                self.held[place] = members
                found.append(f'optimizer.param_groups[{place}]["params"][:] = {self._list(members)}')
        for number, members in newcomers:
            found.append(f"optimizer.add_param_group({self._group(number, members)})")
            self.held[len(self.layout)] = members
            self.layout.append((number, members))
            found += [f'optimizer.param_groups[-1]["lr"] *= {factor!r}' for factor in self.rates if self.rated]
            self.grew = True
        return found

    def _rebuild(self) -> list[Statement]:
        first = not self.optimizer
        self.layout = self._newcomers(frozenset())
        found = self._construction()
        if first and self.optimizer:
            found += [statement for factor in self.rates for statement in self._scaled_rates(factor)]
        self.schedulers = []
        return found

    def _scaled_rates(self, factor: float) -> list[Statement]:
        if not self.rated or not self.optimizer:
            return []
        return [block("for group in optimizer.param_groups:", f'group["lr"] *= {factor!r}')]

    # Events

    def event(self, number: int, event: AnyEvent) -> list[Statement]:
        """The statements of one event. Those that draw a batch begin with it."""
        self.number = number
        match event:
            case Step():
                found = self._step(event)
            case Freeze() | Thaw():
                found = self._change(event)
            case ZeroGrad():
                found = self._zero_grad(event)
            case BackwardUnderNoGrad():
                found = self._backward_under_no_grad()
            case SaveLoad():
                found = self._guarded("load", *self._resume()) if self.resumes else []
            case SetLr():
                self.rates.append(event.factor)
                found = self._scaled_rates(event.factor)
            case Schedule():
                found = self._schedule(event)
            case Train():
                found = ["model.train()", *self._switched("train")]
            case Eval():
                found = self._eval_frozen() if event.only_frozen else ["model.eval()", *self._switched("eval")]
        return self._at("before") + found + self._at("end")

    @property
    def seed(self) -> int:
        return self.case.seed * 1000 + self.number + 1

    def _drawn(self, passes: int = 1) -> Statement:
        if not accumulates(self.case):
            return f"x, y = batch({self.seed})"
        return f"batches = draw({self.seed}, {passes})" if passes > 1 else f"((x, y),) = draw({self.seed}, 1)"

    def _step(self, event: Step) -> list[Statement]:
        if self.device == "meta":
            event = msgspec.structs.replace(event, amp="none")
        drawn = self._drawn(event.micro_batches)
        frozen = self._some(sorted(self.frozen))
        begin = [f"{'kept = ' if 'end' in self.own else ''}begin({frozen})"] if "begin" in self.own else []
        end = [f"end({frozen}, {'kept' if begin else None})"] if "end" in self.own else []
        if not (self.stepping and event.closure):
            found = [drawn, *begin, *self._compute(event)]
            if self.stepping:
                return [*found, *self._switched("train"), *self._guarded("step", *self._plain_step(event)), *end]
            self.scaler = self.scaler and not event.scaled
            return found
        first = self._compute(event) if self.subject.closure == "after-backward" else []
        closure = block("def closure():", *self._at("called"), *self._compute(event), *self._at("returning"), f"return {_loss(event)}")
        call: list[Statement] = self._at("stepped") or ["optimizer.step(closure)"]
        return [drawn, *begin, *first, closure, *self._switched("train"), *self._guarded("step", *call), *end]

    def _compute(self, event: Step) -> list[Statement]:
        found = self._clear(event.set_to_none, event.zeroed_by) + self._at("cleared")
        if event.micro_batches > 1 and event.closure:
            found.append("total = 0")
        between = "between_passes" in self.own or isinstance(self.approach, SubsetCleared)
        unrolled = bool(event.after_forward) or between
        if event.micro_batches > 1 and unrolled:
            for number in range(event.micro_batches):
                if number and "between_passes" in self.own:
                    found.append(f"between_passes({self._some(sorted(self.frozen))})")
                elif number and between:
                    found += self._each(sorted(self.frozen), "{p}.grad = None")
                last = number == event.micro_batches - 1
                found += [f"x, y = batches[{number}]", *self._pass(event, last=last)]
        elif event.micro_batches > 1:
            found.append(block("for x, y in batches:", *self._pass(event)))
        else:
            found += self._pass(event)
        found += self._at("gradients")
        found += [f"after_backward({self._some(sorted(self.frozen))})"] if "after_backward" in self.own else []
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
        return found + self._at("handed")

    def _pass(self, event: Step, *, last: bool = True) -> list[Statement]:
        divided = f" / {event.micro_batches}" if event.micro_batches > 1 else ""
        found = self._guarded("forward", *self._forward(event.amp != "none", divided))
        differentiable = self._has_graph()
        for each in event.after_forward if last else ():
            found += self._change(each)
        scaled = "loss"
        if event.scaled:
            if not self.scaler:
                kind = self.device.partition(":")[0]
                found.append(f'scaler = torch.amp.GradScaler("{kind}", init_scale={SCALE})')
                self.scaler = True
            if event.amp == "overflow":
                found += ["scaler.scale(loss.detach())", 'scaler.update(float("inf"))']
            scaled = "scaler.scale(loss)"
        if self.subject.backward == "fused":
            rate = ', lr=optimizer.param_groups[0]["lr"]' if _takes_rate(self.subject.factory) else ""
            backward = f"optimizer.fused_backward({scaled}{rate})"
        else:
            backward = f"{scaled}.backward({'create_graph=True' if self.subject.backward == 'create-graph' else ''})"
            if "backward" in self.own:
                trainable = [i for i in range(len(self.case.parameters)) if i not in self.frozen]
                backward = f"backward({scaled}, {self._some(trainable)})"
        if differentiable:
            statements: list[Statement] = [backward]
        elif event.scaled:
            statements = ["scaled = scaler.scale(loss)", block("if scaled.requires_grad:", "scaled.backward()")]
        else:
            statements = [block("if loss.requires_grad:", backward)]
        found += self._guarded("backward", *statements) + self._at("pass")
        return [*found, *(["total += loss.detach()"] if divided and event.closure else [])]

    def _has_graph(self) -> bool:
        """Whether something upstream of the loss surely requires grad."""
        if self.own:
            return False
        frozen = self.frozen if isinstance(self.approach, RequiresGrad) else ()
        return self.case.architecture.graph(frozen, self.case.differentiable_input)[-1]

    def _forward(self, autocast: bool, divided: str = "") -> list[Statement]:
        samples = "x.clone()" if self.case.architecture.places[0].layer.overwritable is False and self.case.differentiable_input else "x"
        outputs = f"forward(model, {samples}, {self._some(sorted(self.frozen))})" if "forward" in self.own else f"model({samples})"
        if not autocast:
            return [f"loss = nn.functional.mse_loss({outputs}, y){divided}"]
        kind = self.device.partition(":")[0]
        return [
            block(f'with torch.autocast("{kind}", dtype=torch.bfloat16):', f"outputs = {outputs}"),
            f"loss = nn.functional.mse_loss(outputs.to(y.dtype), y){divided}",
        ]

    def _plain_step(self, event: Step) -> list[Statement]:
        if self.subject.backward == "fused":
            return []
        if not event.scaled:
            return ["optimizer.step()"]
        calls = ["scaler.step(optimizer)", f"scaler.update({SCALE if event.amp == 'overflow' else ''})"]
        if self._at("refused"):
            return [block("try:", *calls), block("except AssertionError as error:", *self._at("refused"))]
        if event.drop == "all" or self.frozen.issuperset(self.owned):
            self.scaler = False
            return [block("try:", *calls), block("except AssertionError:", "pass  # not a single gradient")]
        return [*calls]

    def _clear(self, set_to_none: bool, by: str = "optimizer") -> list[Statement]:
        arguments = "" if set_to_none else "set_to_none=False"
        if by == "model":
            return self._guarded("zero_grad", f"model.zero_grad({arguments})")
        found: list[Statement] = []
        companion = isinstance(self.approach, SubsetSecondOptimizer) and bool(self.frozen)
        if "clear" in self.own:
            optimizers = ", ".join(["optimizer"] * self.stepping + ["companion"] * companion)
            found.append(f"clear([{optimizers}], {self._some(sorted(self.frozen))}, {set_to_none})")
        elif self.stepping:
            inherited = getattr(self.subject.factory, "zero_grad", None) is Optimizer.zero_grad
            found.append(f"optimizer.zero_grad({arguments or ('' if inherited else 'set_to_none=True')})")
        if companion and "clear" not in self.own:
            found.append(f"companion.zero_grad({arguments})")
        if isinstance(self.approach, SubsetCleared) and "clear" not in self.own:
            found += self._each(sorted(self.frozen), "{p}.grad = None")
        if self.subject.factory is None:
            whole = len(self.owned) == len(self.case.parameters)
            found += ["model.zero_grad()"] if whole else self._each(self.owned, "{p}.grad = None")
        return self._guarded("zero_grad", *found)

    def _dropped(self, event: Step) -> list[int]:
        trainable = [i for i in range(len(self.case.parameters)) if i not in self.frozen]
        return {"none": [], "first": trainable[:1], "last": trainable[-1:], "all": trainable}[event.drop]

    def _clip(self, event: Clip) -> list[Statement]:
        owned = event.over == "owned"
        listed = self._list(sorted(self.owned)) if owned else "model.parameters()"
        if event.by == "norm":
            return [f"nn.utils.clip_grad_norm_({listed}, {event.limit!r})"]
        call = f"nn.utils.clip_grad_value_({listed}, {event.limit!r})"
        return [block(f"if any(p.grad is not None for p in {listed}):", call)]

    def _zero_grad(self, event: ZeroGrad) -> list[Statement]:
        return [
            *self._each(self.owned, "{p}.grad = torch.ones_like({p})"),
            *self._clear(event.set_to_none),
            *self._at("cleared"),
            *self._each(self.owned, "{p}.grad = None"),
        ]

    def _backward_under_no_grad(self) -> list[Statement]:
        found = [self._drawn(), *self._clear(True), *self._at("cleared")]
        found.append(block("with torch.no_grad():", *self._guarded("forward", *self._forward(False))))
        found += self._at("backward") or [block("if loss.requires_grad:", *self._guarded("backward", "loss.backward()"))]
        found += self._at("handed")
        if self.stepping:
            call = "optimizer.step(lambda: loss)" if self.subject.closure in ("required", "after-backward") else "optimizer.step()"
            found += [*self._switched("train"), *self._guarded("step", call)]
        return found

    def _eval_frozen(self) -> list[Statement]:
        places = [place for place in self.case.architecture.places if place.uses and self.frozen.issuperset(place.uses)]
        return [f"{expression(place.path)}.eval()" for place in places]

    def _schedule(self, event: Schedule) -> list[Statement]:
        if not self.optimizer:
            return []
        found, name = [], "scheduler" if len(self.case_schedulers) < 2 else f"scheduler_{self.case_schedulers.index(event.scheduler)}"
        if event.scheduler not in self.schedulers:
            self.schedulers.append(event.scheduler)
            found.append(f"{name} = torch.optim.lr_scheduler.{SCHEDULERS[event.scheduler]}")
        step = f"{name}.step({'1.0' if event.scheduler == 'ReduceLROnPlateau' else ''})"
        if self.grew:  # torch's schedulers break on groups that they were not built with
            self.naming.imports.add("import contextlib")
            return self._guarded("schedule", *found, block("with contextlib.suppress(Exception):", step))
        return self._guarded("schedule", *found, step)

    @property
    def case_schedulers(self) -> list[str]:
        return list(dict.fromkeys(event.scheduler for event in self.case.program if isinstance(event, Schedule)))

    # Checkpoints

    def _resume(self) -> list[Statement]:
        if self.optimizer and not all(map(self._members, range(len(self.layout)))):
            return []
        self.naming.imports |= {"import io", "import torch"}
        left = [i for i in self.case.frozen_midway if i not in self.owned] if self.optimizer else []
        names = ", ".join(self.naming.value(self.case.parameters[i].name) for i in left)
        parts = {"model": "model"}
        if self.optimizer:
            parts["optimizer"] = "optimizer"
        if self.scaler:
            parts["scaler"] = "scaler"
        numbers = {name: "scheduler" if len(self.case_schedulers) < 2 else f"scheduler_{i}" for i, name in enumerate(self.case_schedulers)}
        parts |= {numbers[name]: numbers[name] for name in self.schedulers}
        saved = ", ".join(f'"{part}": {part}.state_dict()' for part in parts)
        found: list[Statement] = []
        if left:
            # With the state of what its groups no longer hold, state_dict() raises KeyError.
            found += [
                f"named = {{name: model.get_parameter(name) for name in [{names}]}}",
                "aside = {name: optimizer.state.pop(p) for name, p in named.items() if p in optimizer.state}",
            ]
        found += [
            "file = io.BytesIO()",
            f"torch.save({{{saved}}}, file)",
            "file.seek(0)",
            "saved = torch.load(file, weights_only=False)",
            *(["old = model"] if self._modes or self._kept else []),
            f"model = network({self.case.seed + 1})",
            'model.load_state_dict(saved["model"])',
            *self._freezing(sorted(self.frozen)),
        ]
        if self._modes:
            found.append(block("for new, known in zip(model.modules(), old.modules()):", "new.training = known.training"))
        if self._kept:
            found.append(block("for p, known in zip(model.parameters(), old.parameters()):", "p.grad = known.grad"))
        found += self._construction()
        found += [f"{numbers[name]} = torch.optim.lr_scheduler.{SCHEDULERS[name]}" for name in self.schedulers]
        if self.optimizer:
            found.append('optimizer.load_state_dict(saved["optimizer"])')
            found += ["optimizer.train()"] if self.switches else []
        if left:
            found.append(block("for name, state in aside.items():", "optimizer.state[model.get_parameter(name)] = state"))
        found += [f'{part}.load_state_dict(saved["{part}"])' for part in parts if part.startswith("scheduler")]
        if self.scaler:
            kind = self.device.partition(":")[0]
            found += [f'scaler = torch.amp.GradScaler("{kind}", init_scale={SCALE})', 'scaler.load_state_dict(saved["scaler"])']
        return found + self._companion()

    @property
    def _modes(self) -> bool:
        """Whether some module may be in eval mode."""
        return self.case.frozen_in_eval or self.case.has(Eval)

    @property
    def _kept(self) -> bool:
        """Whether a gradient of before a checkpoint may matter after it; it is no part of one."""
        after = next((event for event in self.case.program[self.number + 1 :] if isinstance(event, Step)), None)
        cleared = isinstance(self.approach, RequiresGrad) and after is not None and after.set_to_none
        return not cleared


def _why(approach: Approach) -> str:
    if type(approach) in WHY:
        return WHY[type(approach)]
    return " ".join((type(approach).__doc__ or type(approach).__name__).split())


def accumulates(case: Case) -> bool:
    """Whether any step takes more than one batch."""
    return any(isinstance(event, Step) and event.micro_batches > 1 for event in case.program)


def _loss(event: Step) -> str:
    return "total" if event.micro_batches > 1 else "loss"


@lru_cache(maxsize=16)
def _abilities(case: Case, subject: Subject, device: str) -> tuple[bool, bool, str]:
    """Whether the optimizer has modes, whether its groups have a learning rate, and the mode that it is in."""
    try:
        optimizer = Training(case, subject, RequiresGrad(), device).optimizer
    except Exception:  # a constructor that crashes is what the script is to show
        return False, True, "train"
    groups = getattr(optimizer, "param_groups", [{}])
    return callable(getattr(optimizer, "train", None)), "lr" in groups[0], "train"


def _takes_rate(factory: Callable[..., Any] | None) -> bool:
    import inspect

    method = getattr(factory, "fused_backward", None)
    return method is not None and "lr" in inspect.signature(method).parameters
