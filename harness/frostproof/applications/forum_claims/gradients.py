"""Claims about which parameters get a gradient, and what an optimizer does with it."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

from frostproof.applications.forum_claims import strategies
from frostproof.applications.forum_claims.claim import Claim
from frostproof.applications.forum_claims.training import build, difference, loss_of, parameters_of


def optimizer_checks_requires_grad(optimizer: Any, gradient: float) -> tuple[bool, str]:
    parameter = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    parameter.grad = torch.full_like(parameter, gradient)
    name, options = optimizer
    getattr(torch.optim, name)([parameter], lr=0.1, **options).step(lambda: torch.tensor(1.0))
    moved = difference([torch.ones(2, 2)], [parameter]) or "the same bits"
    seen = f"a parameter with requires_grad=False, before and after: {moved}"
    return moved == "the same bits", seen


def frozen_gradients_zeroed(
    layers: tuple[str, ...], before: int, after: int, set_to_none: bool, seed: int
) -> tuple[bool, str]:
    model, optimizer = build("A", layers, seed=seed)
    frozen = parameters_of(model, layers, "frozen")
    for step in range(before + after):
        for parameter in frozen:
            parameter.requires_grad = step < before
        loss_of(model, step).backward()
    had = sum(each.grad is not None for each in frozen)
    optimizer.zero_grad(set_to_none)
    kept = sum(each.grad is not None and bool(each.grad.any()) for each in frozen)
    seen = f"{had} of {len(frozen)} frozen parameters had a gradient, and {kept} kept it"
    return had == len(frozen) and not kept, seen


def both_calculate_gradients(layers: tuple[str, ...], seed: int) -> tuple[bool, str]:
    counts = []
    for approach in "AB":
        model, _ = build(approach, layers, seed=seed)
        loss_of(model).backward()
        frozen = parameters_of(model, layers, "frozen")
        counts.append(sum(each.grad is not None for each in frozen))
    seen = f"of {len(frozen)} frozen parameters, {counts[0]} have a gradient in A, {counts[1]} in B"
    return counts == [len(frozen)] * 2, seen


def needed_to_backprop(layers: tuple[str, ...], seed: int) -> tuple[bool, str]:
    a, whole = (build(approach, layers, seed=seed)[0] for approach in "AB")
    loss_of(a).backward()
    loss_of(whole).backward()
    trained = [parameters_of(model, layers, "trained") for model in (a, whole)]
    differs = difference(*([each.grad for each in group] for group in trained))
    frozen = sum(each.grad is not None for each in parameters_of(a, layers, "frozen"))
    seen = f"gradients of trained layers, in A and unfrozen: {differs or 'the same bits'}"
    return bool(differs) or frozen > 0, f"{seen}; {frozen} gradients of frozen ones were computed"


CLAIMS = (
    Claim(
        "optimizer-checks-requires-grad",
        {
            "second answer": "In the 1st case weights aren't updated because optimizer checks "
            "requires_grad in order to whether update them or not."
        },
        "A step does not change a parameter with requires_grad=False, even if it has a gradient.",
        {
            "optimizer": st.sampled_from((*strategies.OPTIMIZERS, ("LBFGS", {}))),
            "gradient": st.sampled_from((1.0, -1.0, 0.5, 1e-3, 1e3)),
        },
        optimizer_checks_requires_grad,
    ),
    Claim(
        "frozen-gradients-zeroed",
        {
            "second answer": "However, gradients are zeroed as they have been passed to the "
            "optimizer."
        },
        "In A the frozen parameters have gradients, and the optimizer's zero_grad clears them.",
        {
            "layers": strategies.LAYERS,
            "before": st.integers(0, 2),
            "after": st.integers(1, 2),
            "set_to_none": st.sampled_from((True, False)),
            "seed": strategies.SEEDS,
        },
        frozen_gradients_zeroed,
        "they had a gradient before they were frozen: none is allocated afterwards",
        lambda before, **_: before > 0,
    ),
    Claim(
        "both-calculate-gradients",
        {"second answer": "Both calculate gradients."},
        "Frozen parameters get gradients in A and in B.",
        {"layers": strategies.LAYERS, "seed": strategies.SEEDS},
        both_calculate_gradients,
    ),
    Claim(
        "needed-to-backprop",
        {
            "second answer": "even if you set requires_grad = False, you may need those gradients "
            "to backprop through previous trainable layers. That is why gradients are computed in "
            "both cases."
        },
        "Trained layers before a frozen layer get their gradients only if the gradients of the "
        "frozen parameters are computed too.",
        {"layers": strategies.FOLLOWED, "seed": strategies.SEEDS},
        needed_to_backprop,
    ),
)
