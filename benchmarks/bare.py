"""The bare torch loop: what a trial costs without generation, observation and judgement."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from frostproof.approach import Approach, Approaches
from frostproof.case import Case
from frostproof.program import AnyEvent, Step, ZeroGrad
from frostproof.subject import Subject


def bare_trial(case: Case, subject: Subject, device: str = "cpu") -> None:
    """Build, data and events of `case` under the approaches that it names; an exception ends it, as it ends a trial."""
    twins = [BareTwin(case, subject, approach, device) for approach in Approaches().of(case.extras).values()]
    for number, event in enumerate(case.program):
        seed = case.seed * 1000 + number + 1
        generator = torch.Generator().manual_seed(seed)
        samples, targets = case.architecture.batch(case.batch, generator, device, getattr(torch, case.dtype))
        for twin in twins:
            torch.default_generator.manual_seed(seed)
            try:
                twin.run(event, samples, targets)
            except (RuntimeError, TypeError):
                return


class BareTwin:
    """A network under one approach, trained as a script would."""

    def __init__(self, case: Case, subject: Subject, approach: Approach, device: str) -> None:
        self.case, self.approach = case, approach
        torch.default_generator.manual_seed(case.seed)
        self.model = case.architecture.build(device, getattr(torch, case.dtype))
        self.parameters = list(self.model.parameters())
        self.frozen = [self.parameters[i] for i in case.frozen]
        approach.freeze(self.model, self.frozen)
        if case.frozen_in_eval:
            frozen = set(map(id, self.frozen))
            for module in self.model.modules():
                own = list(module.parameters(recurse=False))
                if own and frozen.issuperset(map(id, own)):
                    module.eval()
        positions = {parameter.name: i for i, parameter in enumerate(case.parameters)}
        groups = []
        for group in case.groups:
            members = [i for i in (positions[name] for name in group.parameters) if approach.owns(i in case.frozen)]
            if members:
                groups.append({"params": [self.parameters[i] for i in members], **dict(group.options)})
        self.optimizers = []
        if groups and subject.factory is not None:
            arguments = {**subject.arguments, **dict(case.groups[0].options)}
            self.optimizers.append(subject.factory(groups[0]["params"] if len(case.groups) == 1 else groups, **arguments))
        companion = approach.companion(self.frozen)
        if companion is not None:
            self.optimizers.append(companion)

    def run(self, event: AnyEvent, samples: Tensor, targets: Tensor) -> None:
        step = self.optimizers[0].step if self.optimizers else None
        if isinstance(event, ZeroGrad):
            for parameter in self.parameters:
                parameter.grad = torch.ones_like(parameter)
            self.approach.clear(self.optimizers, self.frozen, event.set_to_none)
            for parameter in self.parameters:
                parameter.grad = None
        elif not isinstance(event, Step):
            self.approach.clear(self.optimizers, self.frozen, True)
            with torch.no_grad():
                self.backward(samples, targets)
            if step is not None:
                step()
        elif event.closure and step is not None:
            step(lambda: self.evaluate(event, samples, targets))
        else:
            self.evaluate(event, samples, targets)
            if step is not None:
                step()

    def evaluate(self, event: Step, samples: Tensor, targets: Tensor) -> Tensor:
        self.approach.clear(self.optimizers, self.frozen, event.set_to_none)
        loss = self.backward(samples, targets)
        trainable = self.case.trainable
        for i in {"none": (), "first": trainable[:1], "last": trainable[-1:], "all": trainable}[event.drop]:
            self.parameters[i].grad = None
        return loss

    def backward(self, samples: Tensor, targets: Tensor) -> Tensor:
        inputs = samples.clone()
        if self.case.differentiable_input:
            inputs.requires_grad_()
        loss = mse_loss(self.model(inputs), targets)
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except RuntimeError:
            if loss.requires_grad:
                raise
        return loss
