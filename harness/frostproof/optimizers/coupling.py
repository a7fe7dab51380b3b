"""Whether what an optimizer does to one parameter depends on others, with nothing frozen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import nn

from frostproof.errors import one_line
from frostproof.optimizers.nothing_frozen import simplest
from frostproof.spec.case import DType
from frostproof.spec.subject import Options, Subject
from frostproof.training.bits import bits_of
from frostproof.training.observation import Bits
from frostproof.training.rng import seed_everything

SHAPES = ((2, 3), (3, 3))
SIZES = (1.0, 0.01, 100.0)
"""What drawn gradients are multiplied by: an optimizer may clip large ones only."""
STEPS, FEW_STEPS = 12, len(SIZES)
"""Steps with the simplest hyperparameters, and with each alternative: an optimizer may be slow."""


def coupling(subject: Subject, device: str) -> str | None:
    """Why the subject cannot be asked to train each parameter as alone; None if it can."""
    stated = subject.coupled or next(_unlike_lists_of_parameters(subject), None)
    if stated is not None:
        return stated
    simple = simplest(subject)
    try:
        alike = _alike(subject, device, simple, max(STEPS, subject.patience))
    except Exception as error:  # whatever it raises
        return one_line(f"it cannot train one parameter, or two: {error}")
    for choice in subject.choices:
        for each in choice[1:]:
            with suppress(Exception):  # It raises with these, whether it is alone or not.
                alike = alike and _alike(subject, device, (*simple, *each), FEW_STEPS)
    return None if alike else "with nothing frozen, one parameter changes what another one does"


def _unlike_lists_of_parameters(subject: Subject) -> Iterator[str]:
    if subject.positional:
        yield subject.positional
    if subject.takes != "parameters" or subject.distributed:
        yield "it is built from more than a list of parameters"
    if not subject.per_parameter:
        yield "its state does not belong to single parameters"
    if subject.needs_closure or subject.backward != "plain":
        yield "it takes part in the backward pass"
    if subject.modes:
        yield "it has modes"
    if subject.parameters == "sparse":
        yield "it takes sparse gradients only"


def _alike(subject: Subject, device: str, options: Options, steps: int) -> bool:
    """Whether each of two parameters has the bits that it has alone, after each step.

    At the end both may be NaN. Small updates show in float64 alone.
    """
    both = range(len(SHAPES))
    small = [each for each in subject.dtypes[1:] if each == "float64"]
    for dtype in (subject.dtypes[0], *small):
        together = _trained(subject, device, options, steps, (*both,), dtype)
        for i in both:
            alone = _trained(subject, device, options, steps, (i,), dtype)
            if [each[i] for each in together] != [each[i] for each in alone]:
                return False
    return True


def _trained(
    subject: Subject,
    device: str,
    options: Options,
    steps: int,
    owned: tuple[int, ...],
    dtype: DType,
) -> list[tuple[Bits, ...]]:
    """The bits of two parameters, of which the optimizer owns some, after each step."""
    assert subject.factory is not None
    seed_everything(0, device)
    kind = {"device": device, "dtype": getattr(torch, dtype)}
    parameters = [nn.Parameter(torch.randn(shape, **kind)) for shape in SHAPES]
    given: list[object] = [parameters[i] for i in owned]
    if subject.keys is not None:
        given = [{"params": given, **subject.keys("0.weight", SHAPES[0])}]
    optimizer = subject.factory(given, **{**subject.arguments, **dict(options)})
    seen = []
    first = [torch.randn_like(parameter) for parameter in parameters]
    for number in range(steps):
        drawn = [torch.randn_like(each) * SIZES[number % len(SIZES)] for each in parameters]
        # The first half has one gradient: an optimizer may adapt to a lasting direction.
        gradients = first if number < steps // 2 else drawn
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        seed_everything(number, device)
        optimizer.step()
        seen.append(bits_of(parameters))
    return seen
