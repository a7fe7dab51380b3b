"""Claims about the parameters that the optimizer has: they are trained, and the others are not."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from frostproof.applications.forum_claims import strategies
from frostproof.applications.forum_claims.claim import Claim
from frostproof.applications.forum_claims.training import (
    build,
    difference,
    loss_of,
    parameters_of,
    train,
)


def not_passed_is_static(
    layers: tuple[str, ...], optimizer: Any, steps: int, limit: float, seed: int
) -> tuple[bool, str]:
    model, built = build("B", layers, optimizer, seed)
    frozen = parameters_of(model, layers, "frozen")
    before = [each.detach().clone() for each in frozen]
    train(model, built, steps, clip=limit)
    moved = difference(before, frozen) or "the same bits"
    largest = max(float(each.grad.abs().max()) for each in frozen)
    seen = f"the other parameters, before and after: {moved}, with gradients of up to {largest:.3g}"
    return moved == "the same bits", seen


def accumulate(layers: tuple[str, ...], optimizer: Any, steps: int, seed: int) -> tuple[bool, str]:
    model, built = build("B", layers, optimizer, seed)
    frozen = parameters_of(model, layers, "frozen")
    sums: list[Any] = []
    for step in range(steps):
        fresh = torch.autograd.grad(loss_of(model, step), frozen)
        sums = [old + new for old, new in zip(sums, fresh, strict=True)] if sums else [*fresh]
        built.zero_grad()
        loss_of(model, step).backward()
        built.step()
    differs = difference(sums, [each.grad for each in frozen]) or "the same bits"
    largest = max(float(each.abs().max()) for each in sums)
    seen = f"gradients, and sums over {steps} steps: {differs}; the largest is {largest:.3g}"
    return differs == "the same bits", seen


def right_gradients(
    layers: tuple[str, ...], optimizer: Any, steps: int, seed: int
) -> tuple[bool, str]:
    (b, built), (alone, other) = (build("B", layers, optimizer, seed) for _ in range(2))
    passed, by_hand = (parameters_of(model, layers, "trained") for model in (b, alone))
    train(b, built, steps)
    for step in range(steps):
        fresh = torch.autograd.grad(loss_of(alone, step), by_hand)
        for parameter, gradient in zip(by_hand, fresh, strict=True):
            parameter.grad = gradient
        other.step()
    gradients = difference([p.grad for p in passed], [p.grad for p in by_hand])
    updates = difference(passed, by_hand)
    seen = f"gradients: {gradients or 'the same bits'}; parameters: {updates or 'the same bits'}"
    return not gradients and not updates, seen


_EXAMPLES = {
    "layers": strategies.LAYERS,
    "optimizer": strategies.OPTIMIZING,
    "steps": strategies.STEP_COUNTS,
    "seed": strategies.SEEDS,
}

CLAIMS = (
    Claim(
        "not-passed-is-static",
        {
            "third question": "the parameters I didn't pass to the optimizer are indeed static",
            "second answer": "In the 2nd case weights aren't updated because they haven't been "
            "passed to the optimizer.",
        },
        "A parameter that the optimizer does not have keeps its bits, whatever its gradient is.",
        {**_EXAMPLES, "limit": strategies.LIMITS},
        not_passed_is_static,
    ),
    Claim(
        "accumulate",
        {
            "first answer": "you aren't zeroing gradients for the other layers but accumulating "
            "them as they arent affected by optimizer.zero_grad()",
            "third answer": "the non-frozen parameters will accumulate the gradients (without an "
            "update in your use case)",
        },
        "In B the gradient of a parameter that is not passed to the optimizer is the sum of the "
        "gradients of all steps, added in order, bit for bit.",
        {**_EXAMPLES, "steps": st.integers(2, 4)},
        accumulate,
    ),
    Claim(
        "right-gradients",
        {
            "third answer": "The passed parameters will get the right gradients and will be "
            "updated properly."
        },
        "In B the passed parameters get the gradients and updates that they get in a model in "
        "which no other parameter ever has a gradient.",
        _EXAMPLES,
        right_gradients,
    ),
)
