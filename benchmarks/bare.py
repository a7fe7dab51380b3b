"""The bare torch loop: what a trial costs without generation, observation and judgement."""

from __future__ import annotations

import torch
from torch.nn.functional import mse_loss

from frostproof.approach import Approach, Approaches
from frostproof.case import Case
from frostproof.program import Step, ZeroGrad
from frostproof.subject import Subject


def bare_trial(case: Case, subject: Subject, device: str = "cpu") -> None:
    """Build, data and events of `case` under the approaches that it names; an exception ends it, as it ends a trial."""
    dtype = getattr(torch, case.dtype)
    twins = [_twin(case, subject, approach, device, dtype) for approach in Approaches().of(case.extras).values()]
    for index, event in enumerate(case.program):
        generator = torch.Generator().manual_seed(case.seed * 1000 + index + 1)
        samples, targets = case.architecture.batch(case.batch, generator, device, dtype)
        for model, parameters, frozen, optimizers, approach in twins:
            torch.default_generator.manual_seed(case.seed * 1000 + index + 1)

            def closure() -> torch.Tensor:
                approach.clear(optimizers, frozen, getattr(event, "set_to_none", True))
                inputs = samples.clone()
                if case.differentiable_input:
                    inputs.requires_grad_()
                loss = mse_loss(model(inputs), targets)
                if loss.requires_grad:
                    loss.backward()
                if isinstance(event, Step) and event.drop != "none":
                    chosen = {"first": case.trainable[:1], "last": case.trainable[-1:], "all": case.trainable}[event.drop]
                    for i in chosen:
                        parameters[i].grad = None
                return loss

            if isinstance(event, ZeroGrad):
                for parameter in parameters:
                    parameter.grad = torch.ones_like(parameter)
                approach.clear(optimizers, frozen, event.set_to_none)
                for parameter in parameters:
                    parameter.grad = None
            elif isinstance(event, Step):
                try:
                    if event.closure and optimizers:
                        optimizers[0].step(closure)
                    else:
                        closure()
                        if optimizers:
                            optimizers[0].step()
                except TypeError:
                    return
            else:
                with torch.no_grad():
                    mse_loss(model(samples.clone()), targets)


def _twin(case: Case, subject: Subject, approach: Approach, device: str, dtype: torch.dtype):
    torch.default_generator.manual_seed(case.seed)
    model = case.architecture.build(device, dtype)
    parameters = list(model.parameters())
    frozen = [parameters[i] for i in case.frozen]
    approach.freeze(model, frozen)
    positions = {parameter.name: i for i, parameter in enumerate(case.parameters)}
    groups = []
    for group in case.groups:
        members = [parameters[i] for i in map(positions.get, group.parameters) if approach.owns(i in case.frozen)]
        if members:
            groups.append({"params": members, **dict(group.options)})
    arguments = {**subject.arguments, **dict(case.groups[0].options)}
    optimizers = []
    if groups and subject.factory is not None:
        optimizers.append(subject.factory(groups[0]["params"] if len(case.groups) == 1 else groups, **arguments))
    companion = approach.companion(frozen)
    if companion is not None:
        optimizers.append(companion)
    return model, parameters, frozen, optimizers, approach
