"""The statements of one step: clear gradients, forward, backward, clip, step."""

from __future__ import annotations

import inspect
from collections.abc import Collection

from frostproof.spec.program import Clip, Step
from frostproof.training.construction import Construction
from frostproof.training.source import At, Statement, block

SCALE = 1024.0
"""The initial scale of a GradScaler."""

MATH = "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)"
"""A kernel of attention that can be differentiated twice, unlike the fused ones."""


def _divided(event: Step) -> str:
    """What the loss of one pass is divided by, as an operation."""
    return f" / {event.micro_batches}" if event.micro_batches > 1 else ""


class Passes(Construction):
    """Trains: the passes and steps of a network on one device."""

    device = "cpu"
    scaler = False
    """Whether a GradScaler exists."""
    wrapped: frozenset[int] | None = None
    """The parameters that were frozen by their flags when the setting wrapped the model."""

    @property
    def kind(self) -> str:
        """The type of the device, as "cuda" for "cuda:1"."""
        return self.device.partition(":")[0]

    @property
    def stepper(self) -> str:
        """What is called for a step of the optimizer."""
        return "step" if self.subject.setting.step else "optimizer.step"

    def wrap(self) -> list[Statement]:
        """The statement by which the setting wraps the model, where it has to be wrapped (anew)."""
        setting, frozen = self.subject.setting, frozenset(self._frozen_by_flag())
        if not setting.model:
            return []
        if setting.follows_flags and len(frozen) == len(self.case.parameters):
            self.wrapped = None  # it wraps no model without a trainable parameter
            return []
        if self.wrapped == frozen or not (self.wrapped is None or setting.follows_flags):
            return []
        self.wrapped = frozen
        return [f"wrapped = {setting.model}"]

    def step(self, event: Step) -> list[Statement]:
        """One step, through a closure where the event says so."""
        kept = "kept = " if self.calls("end") else ""
        begin = self.hook("begin", sorted(self.frozen), kept=kept)
        if self.stepping and event.closure:
            called = self._step_with_closure(event)
        else:
            called = [*self._clear(event), *self._compute(event)]
            if not self.stepping:
                # Nothing told the scaler whether the scale was too large.
                self.scaler = self.scaler and not event.scaled
                return [*begin, *called]
            called += [At("step"), *self._call_step(event)]
        if not self.calls("end"):
            return [*begin, *called]
        return [*begin, *called, f"end({self.frozen_list}, {'kept' if begin else None})"]

    def _step_with_closure(self, event: Step) -> list[Statement]:
        """The closure, what comes before it, and the step."""
        closure, loss = self.subject.closure, "total" if event.micro_batches > 1 else "loss"
        returns: list[Statement] = [At("returning", loss), f"return {loss}"]
        first = list[Statement]()
        body: list[Statement] = [At("called"), *self._clear(event), *self._compute(event)]
        if closure == "with-arguments":
            wanted = "given[0] if given else True"
            alone = block(
                f'if named.get("backward", {wanted}) is False:', *self._loss_alone(event), *returns
            )
            body.insert(0, alone)
        elif closure == "after-backward":
            first = [*self._clear(event), *self._compute(event)]
        elif closure == "loss-alone":
            first, body = body[1:], [At("called"), *self._loss_alone(event)]
        elif self.runs_backward:
            first = self._clear(event)
            body = [At("called"), *self._compute(event)]
        takes = self.closure_takes.lstrip()
        called: list[Statement] = [block(f"def closure({takes}):", *body, *returns)]
        if self.subject.setting.compiles:
            # What is compiled is the model in it, and step(), which mixes up a disabled closure
            # and none: it gets a function that calls it.
            called.append("evaluate = torch.compiler.disable(closure)")
            called.append(f"closure = lambda{self.closure_takes}: evaluate({takes})")
        called += [At("step"), f"returned = {self.stepper}(closure)"]
        return [*first, *called, At("returned", "returned")]

    @property
    def closure_takes(self) -> str:
        """The parameters of a closure, behind a space; empty if it has none."""
        return " *given, **named" if self.subject.closure == "with-arguments" else ""

    def _loss_alone(self, event: Step) -> list[Statement]:
        found = self.forward(event.amp != "none", _divided(event))
        if event.micro_batches == 1:
            return found
        return ["total = 0", block("for x, y in batches:", *found, "total += loss.detach()")]

    def _clear(self, event: Step) -> list[Statement]:
        return [*self.clear(event.set_to_none, event.zeroed_by), At("cleared")]

    def _compute(self, event: Step) -> list[Statement]:
        """The passes of a step, as a closure makes them."""
        found: list[Statement] = []
        count = event.micro_batches
        if count == 1:
            found += self._pass(event)
        else:
            if event.closure:
                found.append("total = 0")
            between = self.hook("between_passes", sorted(self.frozen))
            if event.after_forward or between:
                for number in range(count):
                    found += between if number else []
                    found.append(f"x, y = batches[{number}]")
                    found += self._pass(event, last=number == count - 1)
            else:
                found.append(block("for x, y in batches:", *self._pass(event)))
        # An optimizer that runs backward itself uses its gradients up.
        return found if self.runs_backward else [*found, *self._after_backward(event)]

    def _after_backward(self, event: Step) -> list[Statement]:
        found = [At("gradients"), *self.hook("after_backward", sorted(self.frozen))]
        found += self.each(self._dropped(event), "{p}.grad = None")
        scaled = event.scaled
        for each in event.after_backward:
            if not isinstance(each, Clip):
                found += self.change(each)
                continue
            if scaled and self.stepping:
                found.append("scaler.unscale_(optimizer)")
                scaled = False
            found += self._clip(each)
        return [*found, At("handed")]

    def _pass(self, event: Step, *, last: bool = True) -> list[Statement]:
        """One forward and backward pass."""
        divided = _divided(event)
        found = self.forward(event.amp != "none", divided)
        # A closure's loss has no graph where the optimizer disables gradients. That breaks
        # closure-is-honoured, and is not a crash.
        differentiable = self._surely_has_graph() and not event.closure
        for each in event.after_forward if last else ():
            found += self.change(each)
        loss = "loss"
        if event.scaled:
            if not self.scaler:
                found.append(self.new_scaler())
                self.scaler = True
            if event.amp == "overflow":
                # The first builds the scale, which update() then replaces.
                found += ["scaler.scale(loss.detach())", 'scaler.update(float("inf"))']
            loss = "scaler.scale(loss)"
        found.append(At("backward", "loss"))
        if not differentiable and event.scaled:
            found.append(f"scaled = {loss}")
            loss = "scaled"
        found += [self.backward(loss)] if differentiable else self.guarded_backward(loss)
        if self.runs_backward and not (self.fused or self._surely_has_graph()):
            # With everything frozen, step() would raise torch's error.
            found.append(block("if not loss.requires_grad:", "loss.requires_grad_()"))
        found += [] if self.runs_backward else [At("pass")]
        return [*found, "total += loss.detach()"] if divided and event.closure else found

    def guarded_backward(self, loss: str) -> list[Statement]:
        """The backward pass, if the loss has a graph; nothing if step() runs it."""
        if self.runs_backward and not self.fused:
            return []
        return [block(f"if {loss}.requires_grad:", self.backward(loss))]

    def backward(self, loss: str) -> str:
        if self.fused:
            return f"optimizer.fused_backward({loss}{self._rate_for_fused()})"
        if self.subject.backward == "create-graph":
            return f"{loss}.backward(create_graph=True)"
        if self.calls("backward"):
            return f"backward({loss}, {self.list_of(self.trainable)})"
        return f"{loss}.backward()"

    def _rate_for_fused(self) -> str:
        """The learning rate, where fused_backward wants one.

        Of an optimizer that a function builds, only the running script can tell.
        """
        method = getattr(self.subject.factory, "fused_backward", None)
        rate = 'optimizer.param_groups[0]["lr"]'
        if method is not None:
            return f", lr={rate}" if "lr" in inspect.signature(method).parameters else ""
        self.naming.imports.add("import inspect")
        wanted = '"lr" in inspect.signature(optimizer.fused_backward).parameters'
        return f', **({{"lr": {rate}}} if {wanted} else {{}})'

    def _frozen_by_flag(self) -> Collection[int]:
        return self.frozen if self.overrides("freeze") else ()

    def _surely_has_graph(self) -> bool:
        """Whether something upstream of the loss surely requires grad."""
        if self.foreign("freeze", "thaw", "between_passes", "forward"):
            return False
        samples = self.case.differentiable_input
        return self.case.architecture.graph(self._frozen_by_flag(), samples)[-1]

    def _surely_has_gradients(self, event: Step) -> bool:
        """Whether at least one owned parameter surely has a gradient at this step."""
        hooks = ("freeze", "thaw", "between_passes", "forward", "backward", "after_backward")
        if self.foreign(*hooks) or event.mask_changes:
            return False
        samples = self.case.differentiable_input
        reached = self.case.architecture.reached(self._frozen_by_flag(), samples)
        return not (reached - {*self._dropped(event)}).isdisjoint(self.owned)

    def forward(self, autocast: bool, divided: str = "") -> list[Statement]:
        """The forward pass and its loss. `divided`: by the number of passes."""
        network = self.case.architecture
        leaf = self.case.differentiable_input and network.copies_input
        samples = "x.clone()" if leaf else "x"
        called = "model" if self.wrapped is None else "wrapped"
        outputs = network.outputs(samples, called)
        if self.calls("forward"):
            outputs = f"forward({called}, {samples}, {self.frozen_list})"
        found: list[Statement] = [f"loss = {network.loss(outputs, called)}{divided}"]
        if autocast:
            head = f'with torch.autocast("{self.kind}", dtype=torch.bfloat16):'
            if network.knows_layers:
                loss = f"loss = {network.loss('outputs.to(y.dtype)')}{divided}"
                found = [block(head, f"outputs = {outputs}"), loss]
            else:
                found = [block(head, *found), "loss = loss.float()"]
        if self.subject.backward == "create-graph" and network.attends:
            found = [block(f"with {MATH}:", *found)]
        return [At("forward"), *found, At("loss", "loss")]

    def new_scaler(self) -> str:
        return f'scaler = torch.amp.GradScaler("{self.kind}", init_scale={SCALE})'

    def _call_step(self, event: Step) -> list[Statement]:
        if self.subject.backward == "fused":
            return []
        if not event.scaled:
            return [f"{self.stepper}()"]
        update = f"scaler.update({SCALE if event.amp == 'overflow' else ''})"
        calls = ["scaler.step(optimizer)", update]
        if self._surely_has_gradients(event):
            return [*calls]
        # Without a single gradient torch raises, and the scaler's state is then invalid.
        test = block(f"if any(p.grad is not None for p in {self.all_of(self.owned)}):", "raise")
        caught = (At("refused", "error"), test, self.new_scaler())
        return [block("try:", *calls), block("except AssertionError as error:", *caught)]

    def clear(self, set_to_none: bool, by: str = "optimizer") -> list[Statement]:
        """Clear gradients, as the optimizer, its companion and the approach do, or as the model."""
        arguments = "" if set_to_none else "set_to_none=False"
        if by == "model":
            return [At("zero_grad"), f"model.zero_grad({arguments})"]
        found: list[Statement] = [At("zero_grad")]
        if self.stepping:
            able = "set_to_none" not in self.subject.unable
            found.append(f"optimizer.zero_grad({arguments if able else ''})")
        if self.frozen and self.calls("companion"):
            found.append(f"companion.zero_grad({arguments})")
        found += self.hook("clear", sorted(self.frozen))
        if self.subject.factory is None:
            whole = len(self.owned) == len(self.case.parameters)
            found += ["model.zero_grad()"] if whole else self.each(self.owned, "{p}.grad = None")
        return found

    def _dropped(self, event: Step) -> list[int]:
        """The parameters whose gradient the event drops before the step."""
        trainable = self.trainable
        dropped = {"none": [], "first": trainable[:1], "last": trainable[-1:], "all": trainable}
        return dropped[event.drop]

    def _clip(self, event: Clip) -> list[Statement]:
        over_all = event.over == "all"
        listed = "model.parameters()" if over_all else self.all_of(sorted(self.owned))
        call = f"nn.utils.clip_grad_{event.by}_({listed}, {event.limit!r})"
        if event.by == "norm":
            return [*([At("clip")] if over_all else []), call]
        # Without any gradient torch raises.
        return [block(f"if any(p.grad is not None for p in {listed}):", call)]
