"""Lowers a training to plain statements: a case under one approach, for one subject, on one device.

Everything that can be known without running anything is decided here, once. The trial executes the
statements while a recorder observes (`frostproof.training.training`), and the script of a
counterexample prints them (`frostproof.counterexamples.script`). What can be known only while they
run is a statement as well, with its `if`. So a script cannot differ from the trial that found it.

Each module adds one idea to the class of the one before: `ownership` (the mask and the groups),
`hooks` (an approach's methods as statements), `construction` (the model, its optimizer, changes of
the mask), `passes` (a step), `checkpoints`, and here the events of a program.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, assert_never

from frostproof.approaches.approach import Approach
from frostproof.spec import program
from frostproof.spec.case import Case
from frostproof.spec.subject import Subject
from frostproof.training.checkpoints import Checkpoints
from frostproof.training.naming import Naming
from frostproof.training.source import At, Statement, block


class Plan(NamedTuple):
    """The statements of a training."""

    built: list[Statement]
    """Those that build the model and its optimizer."""
    events: list[list[Statement]]
    """Those of each event."""
    own: frozenset[str]
    """The hooks of the approach that they call as functions."""
    only: bool
    """Whether they call `modules.only`."""
    alone: bool
    """Whether they build `EachAlone` optimizers."""


def lower(
    case: Case,
    subject: Subject,
    approach: Approach,
    device: str,
    naming: Naming,
    *,
    resumes: bool = False,
) -> Plan:
    """The training of `case`. `resumes`: whether it goes on from its checkpoints."""
    if approach.eager and subject.setting.compiles:
        subject = replace(subject, setting=replace(subject.setting, step="", model=""))
    lowering = Lowering(case, subject, approach, naming)
    lowering.device = device
    built = lowering.build()
    events = [lowering.event(i, event, resumes) for i, event in enumerate(case.program)]
    return Plan(built, events, frozenset(lowering.own), lowering.only, lowering.alone)


def accumulates(case: Case) -> bool:
    """Whether any step takes more than one batch."""
    return any(isinstance(each, program.Step) and each.micro_batches > 1 for each in case.program)


class Lowering(Checkpoints):
    """Lowers the events of a case, one after another."""

    def event(self, number: int, event: program.AnyEvent, resumes: bool) -> list[Statement]:
        """The statements of one event, between marks. Those that draw a batch begin with it."""
        seed = self.case.seed * 1000 + number + 1
        drawn: Statement = At("seed", "", seed)
        found: list[Statement] = []
        match event:
            case program.Step():
                drawn = self._draw(seed, event.micro_batches)
                found = [*self.switch("train"), *self.wrap(), *self.step(event)]
            case program.Freeze() | program.Thaw():
                found = [*self.switch("train"), *self.change(event)]
            case program.AddFrozen():
                found = [*self.switch("train"), *self.add_frozen(event)]
            case program.ZeroGrad():
                found = self._zero_grad(event)
            case program.BackwardUnderNoGrad():
                drawn = self._draw(seed, 1)
                found = [*self.switch("train"), *self.wrap(), *self._backward_under_no_grad()]
            case program.SaveLoad():
                found = self.resume() if resumes else []
            case program.LoadWeights():
                weights = "{name: p.detach() / 2 for name, p in model.named_parameters()}"
                found = [*self.switch("train"), f"model.load_state_dict({weights}, strict=False)"]
                found.append(At("loaded"))
            case program.SetLr():
                self.factors += (event.factor,)
                found = self.rescale(event.factor)
            case program.Schedule():
                found = self._schedule(event) if self.optimizer else []
            case program.Train():
                found = ["model.train()", *self.switch("train"), At("modes")]
            case program.Eval(only_frozen=True):
                found = [*self.eval_frozen(), At("modes")]
            case program.Eval():
                found = ["model.eval()", *self.switch("eval"), At("modes")]
            case _:
                assert_never(event)
        return [drawn, At("before"), *found, At("end")]

    def _draw(self, seed: int, passes: int) -> Statement:
        if not accumulates(self.case):
            return f"x, y = batch({seed})"
        return f"batches = draw({seed}, {passes})" if passes > 1 else f"((x, y),) = draw({seed}, 1)"

    def _zero_grad(self, event: program.ZeroGrad) -> list[Statement]:
        return [
            *self.each(self.owned, "{p}.grad = torch.ones_like({p})"),
            *self.clear(event.set_to_none),
            At("cleared"),
            *self.each(self.owned, "{p}.grad = None"),
        ]

    def _backward_under_no_grad(self) -> list[Statement]:
        closure = f"lambda{self.closure_takes}: loss" if self.subject.needs_closure else ""
        steps: list[Statement] = [At("step"), f"{self.stepper}({closure})"]
        return [
            *self.clear(True),
            At("cleared"),
            block("with torch.no_grad():", *self.forward(False)),
            At("backward", "loss"),
            *self.guarded_backward("loss"),
            At("handed"),
            *(steps if self.stepping and not self.runs_backward else []),
        ]

    def _schedule(self, event: program.Schedule) -> list[Statement]:
        found: list[Statement] = [At("schedule")]
        if event.scheduler not in self.schedulers:
            self.schedulers += (event.scheduler,)
            found.append(self.new_scheduler(event.scheduler))
        loss = "1.0" if event.scheduler == "ReduceLROnPlateau" else ""
        step = f"{self.title(event.scheduler)}.step({loss})"
        if self.group_added:  # torch's schedulers break on groups that they were not built with
            self.naming.imports.add("import contextlib")
            return [*found, block("with contextlib.suppress(Exception):", step)]
        return [*found, step]
