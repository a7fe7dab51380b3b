"""Claims that passing only the trained parameters to the optimizer does what freezing does."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from torch import nn

from frostproof.applications.forum_claims import strategies
from frostproof.applications.forum_claims.claim import Claim
from frostproof.applications.forum_claims.training import (
    build,
    difference,
    loss_of,
    parameters_of,
    train,
)


def same_results(
    layers: tuple[str, ...], optimizer: Any, steps: int, between: str, seed: int
) -> tuple[bool, str]:
    (a, all_of_a), (b, part_of_b) = (
        build(approach, layers, optimizer, seed, between) for approach in "AB"
    )
    before = [each.clone() for each in a.state_dict().values()]
    train(a, all_of_a, steps)
    train(b, part_of_b, steps)
    moved = difference(before, a.state_dict().values())
    differs = difference(a.state_dict().values(), b.state_dict().values())
    seen = f"A and B: {differs or 'the same bits'}; A, before and after: {moved or 'the same bits'}"
    return not differs, seen


def train_clipped(
    approach: str,
    layers: tuple[str, ...],
    optimizer: Any,
    steps: int,
    clip: str,
    limit: float,
    seed: int,
) -> Any:
    """The trained parameters, and the largest norm of all gradients if they are clipped by it."""
    model, built = build(approach, layers, optimizer, seed)
    trained, norm = parameters_of(model, layers, "trained"), 0.0
    for step in range(steps):
        built.zero_grad()
        loss_of(model, step).backward()
        if clip == "norm of all":
            norm = max(norm, float(nn.utils.clip_grad_norm_(model.parameters(), limit)))
        elif clip == "norm of trained":
            nn.utils.clip_grad_norm_(trained, limit)
        elif clip == "values of all":
            nn.utils.clip_grad_value_(model.parameters(), limit)
        built.step()
    return trained, norm


def functionally_equivalent(**example: Any) -> tuple[bool, str]:
    (a, norm_a), (b, norm_b) = (train_clipped(approach, **example) for approach in "AB")
    differs = difference(a, b)
    norms = f"; the largest norm is {norm_a:.3g} in A, {norm_b:.3g} in B" if norm_b else ""
    return not differs, f"the trained parameters of A and B: {differs or 'the same bits'}{norms}"


def _never_over_the_limit(limit: float, optimizer: Any, **example: Any) -> bool:
    _, norm = train_clipped("B", limit=limit, optimizer=optimizer, **example)
    return optimizer[0] == "Rprop" or bool(limit >= norm + strategies.CLIP_EPSILON)


def equivalent_to_freezing(
    depth: int, tied: bool, optimizer: Any, steps: int, seed: int
) -> tuple[bool, str]:
    layers = ("frozen",) * (depth - 1) + ("trained",)
    model, built = build("B", layers, optimizer, seed)
    if tied:
        model[0][0].weight = model[-1][0].weight
    before = [each.detach().clone() for each in model[:-1].parameters()]
    train(model, built, steps)
    moved = difference(before, model[:-1].parameters())
    return not moved, f"the other parameters, before and after: {moved or 'the same bits'}"


CLAIMS = (
    Claim(
        "same-results",
        {"first post": "I ran some simple tests and both methods yield the same results."},
        "A plain loop of zero_grad, forward, backward and step gives all parameters and buffers "
        "the same bits in A and B.",
        {
            "layers": strategies.LAYERS,
            "optimizer": strategies.OPTIMIZING,
            "steps": strategies.STEP_COUNTS,
            "between": strategies.BETWEEN,
            "seed": strategies.SEEDS,
        },
        same_results,
    ),
    Claim(
        "functionally-equivalent",
        {"first post": "Is my method functionally equivalent or did I miss something important?"},
        "The trained parameters have the same bits in A and B, whatever the loop does to gradients "
        "between backward and step.",
        {
            "layers": strategies.LAYERS,
            "optimizer": strategies.SIGN_OR_SIZE,
            "steps": strategies.STEP_COUNTS,
            "clip": st.sampled_from(("nothing", "values of all", "norm of trained", "norm of all")),
            "limit": strategies.LIMITS,
            "seed": strategies.SEEDS,
        },
        functionally_equivalent,
        "no norm over all parameters of B, including the frozen ones, exceeds its clipping limit, "
        "or the optimizer reads only the signs of gradients (Rprop)",
        _never_over_the_limit,
    ),
    Claim(
        "equivalent-to-freezing",
        {
            "first answer": "if you only pass the desired parameter into the optimizer but nothing "
            "else, you are only pdating that parameter which is, indeed, equivalent to freeze that "
            "layer"
        },
        "Layers whose parameters are not passed to the optimizer keep every bit of their weights.",
        {
            "depth": st.integers(2, 4),
            "tied": st.booleans(),
            "optimizer": strategies.OPTIMIZING,
            "steps": strategies.STEP_COUNTS,
            "seed": strategies.SEEDS,
        },
        equivalent_to_freezing,
        "they share no parameter with a layer whose parameters are passed",
        lambda tied, **_: not tied,
    ),
)
