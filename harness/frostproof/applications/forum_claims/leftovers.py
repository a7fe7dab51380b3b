"""Claims about the gradients of frozen parameters that B never clears."""

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


def train_b(
    zero: str, layers: tuple[str, ...], optimizer: Any, steps: int, seed: int, clip: Any = None
) -> Any:
    """Measure a training of B: its parameters, a leftover gradient, and the norms of clipping.

    Return the parameters that B trains, the largest gradient of a frozen parameter, and the
    norms of all gradients if they are clipped. `zero` says what clears gradients.
    """
    model, built = build("B", layers, optimizer, seed)
    frozen = parameters_of(model, layers, "frozen")
    clears = {"its own": (built,), "all": (model,), "second": (built, torch.optim.SGD(frozen))}
    norms = train(model, built, steps, clip, clears[zero])
    largest = max(float(each.grad.abs().max()) for each in frozen)
    return parameters_of(model, layers, "trained"), largest, norms


def wrong_after_the_first_step(**example: Any) -> tuple[bool, str]:
    (b, largest, _), (other, _, _) = train_b("its own", **example), train_b("all", **example)
    differs = difference(b, other)
    seen = f"the trained parameters: {differs or 'the same bits'}, "
    return bool(differs), f"{seen}with leftover gradients of up to {largest:.3g}"


def previous_layers_affected(**example: Any) -> tuple[bool, str]:
    (b, largest, _), (other, _, _) = train_b("its own", **example), train_b("all", **example)
    differs = difference([each.grad for each in b], [each.grad for each in other])
    seen = f"gradients of trained layers: {differs or 'the same bits'}, "
    return bool(differs), f"{seen}with leftover gradients of up to {largest:.3g}"


def change_optimizer(
    how: str, layers: tuple[str, ...], optimizer: Any, steps: int, seed: int
) -> Any:
    """The parameters after B's `steps` and one step of a new optimizer that has all of them."""
    (model, old), (name, options) = build("B", layers, optimizer, seed), optimizer
    train(model, old, steps)
    new = getattr(torch.optim, name)(model.parameters(), lr=0.1, **options)
    for each in {"nothing": (), "old": (old,), "new": (new,), "model": (model,)}[how]:
        each.zero_grad()
    loss_of(model, steps).backward()
    new.step()
    return list(model.parameters())


def edge_case(zeroed: str, **example: Any) -> tuple[bool, str]:
    after, right = change_optimizer(zeroed, **example), change_optimizer("model", **example)
    differs = difference(after, right) or "the same bits"
    seen = f"all parameters after their first update, and after the right one: {differs}"
    return differs != "the same bits", seen


_EXAMPLES = {
    "layers": strategies.LAYERS,
    "optimizer": strategies.OPTIMIZING,
    "steps": st.integers(2, 4),
    "seed": strategies.SEEDS,
}

CLAIMS = (
    Claim(
        "wrong-after-the-first-step",
        {
            "third question": "the gradient update of the trainable parameters will get wrong "
            "after the initial step, since its never been cleared?"
        },
        "In B the trained parameters differ from those of a training that clears all gradients "
        "before each step.",
        _EXAMPLES,
        wrong_after_the_first_step,
    ),
    Claim(
        "previous-layers-affected",
        {
            "second answer": "This is ok if you don't have previous trainable parameters, "
            "otherwise they will be affected by this gradient accumulation."
        },
        "In B the gradients that accumulate in a layer change the gradients of trained layers "
        "before it.",
        {**_EXAMPLES, "layers": strategies.FOLLOWED},
        previous_layers_affected,
    ),
    Claim(
        "edge-case",
        {
            "third answer": "Should you change the optimizer and suddenly want to update all "
            "parameters, this update might be wrong. Note that this is an edge case."
        },
        "After B, a new optimizer that has all parameters makes a first update that differs from "
        "the one with fresh gradients alone.",
        {
            "steps": st.sampled_from((1, 2, 3, 0)),
            "zeroed": st.sampled_from(("nothing", "old", "new", "model")),
            "layers": strategies.LAYERS,
            "optimizer": strategies.SIZED,
            "seed": strategies.SEEDS,
        },
        edge_case,
        "B made at least one step, and nothing, or only the old optimizer, zeroes gradients before "
        "the backward pass",
        lambda zeroed, steps, **_: steps > 0 and zeroed in ("nothing", "old"),
    ),
)
