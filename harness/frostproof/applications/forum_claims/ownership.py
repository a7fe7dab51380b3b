"""Claims about what the optimizer has and has not: what is passed is trained, what is not stays and piles up gradients."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from frostproof.applications.forum_claims.claim import Claim, Quote
from frostproof.applications.forum_claims.strategies import (
    LAYERS,
    LIMITS,
    OPTIMIZING,
    SEEDS,
    STEP_COUNTS,
)
from frostproof.applications.forum_claims.training import (
    build,
    difference_in_words,
    loss_of,
    parameters_of,
    train,
)


def static(
    layers: tuple[str, ...], optimizer: Any, steps: int, limit: float, seed: int
) -> tuple[bool, str]:
    model, built = build("B", layers, optimizer, seed)
    frozen = parameters_of(model, layers, "frozen")
    before = [each.detach().clone() for each in frozen]
    train(model, built, steps, clip=limit)
    moved, largest = (
        difference_in_words(before, frozen),
        max(float(each.grad.abs().max()) for each in frozen),
    )
    return (
        not moved,
        f"what was not passed, before and after: {moved or 'the same bits'}, with gradients of up to {largest:.3g}",
    )


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
    parted, largest = (
        difference_in_words(sums, [each.grad for each in frozen]),
        max(float(each.abs().max()) for each in sums),
    )
    return (
        not parted,
        f"gradients, and sums over {steps} steps: {parted or 'the same bits'}; the largest is {largest:.3g}",
    )


def right_gradients(
    layers: tuple[str, ...], optimizer: Any, steps: int, seed: int
) -> tuple[bool, str]:
    (b, built), (alone, other) = (
        build("B", layers, optimizer, seed),
        build("B", layers, optimizer, seed),
    )
    passed, by_hand = parameters_of(b, layers, "trained"), parameters_of(alone, layers, "trained")
    train(b, built, steps)
    for step in range(steps):
        for parameter, gradient in zip(
            by_hand, torch.autograd.grad(loss_of(alone, step), by_hand), strict=True
        ):
            parameter.grad = gradient
        other.step()
    gradients = difference_in_words([each.grad for each in passed], [each.grad for each in by_hand])
    updates = difference_in_words(passed, by_hand)
    said = f"gradients: {gradients or 'the same bits'}; parameters: {updates or 'the same bits'}"
    return not gradients and not updates, said


_EXAMPLES = {"layers": LAYERS, "optimizer": OPTIMIZING, "steps": STEP_COUNTS, "seed": SEEDS}

CLAIMS = (
    Claim(
        "not-passed-is-static",
        (
            Quote(
                "third question", "the parameters I didn't pass to the optimizer are indeed static"
            ),
            Quote(
                "second answer",
                "In the 2nd case weights aren't updated because they haven't been passed to the optimizer.",
            ),
        ),
        "A parameter that the optimizer does not have keeps its bits, whatever gradient it has.",
        st.fixed_dictionaries({**_EXAMPLES, "limit": LIMITS}),
        static,
    ),
    Claim(
        "accumulate",
        (
            Quote(
                "first answer",
                "you aren't zeroing gradients for the other layers but accumulating them as they arent affected by optimizer.zero_grad()",
            ),
            Quote(
                "third answer",
                "the non-frozen parameters will accumulate the gradients (without an update in your use case)",
            ),
        ),
        "In B the gradient of a parameter that is not passed is the sum of those of all steps, added in order, bit for bit.",
        st.fixed_dictionaries({**_EXAMPLES, "steps": st.integers(2, 4)}),
        accumulate,
    ),
    Claim(
        "right-gradients",
        (
            Quote(
                "third answer",
                "The passed parameters will get the right gradients and will be updated properly.",
            ),
        ),
        "In B gradients and updates of what is passed are those of a model in which nothing else ever has a gradient.",
        st.fixed_dictionaries(_EXAMPLES),
        right_gradients,
    ),
)
