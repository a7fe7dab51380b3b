"""Claims that no_grad keeps a model from training."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from hypothesis import strategies as st

from frostproof.applications.forum_claims import strategies
from frostproof.applications.forum_claims.claim import Claim
from frostproof.applications.forum_claims.training import build, difference, loss_of, train


def no_grad_raises(
    layers: tuple[str, ...], between: str, inputs: bool, seed: int
) -> tuple[bool, str]:
    model, _ = build("A", layers, seed=seed, between=between)
    with torch.no_grad():
        output = model(torch.randn(4, 3, dtype=torch.float64, requires_grad=inputs))
    try:
        output.square().mean().backward()
    except RuntimeError as error:
        return output.grad_fn is None, f"backward raises: {error}"
    return False, "backward does not raise"


def no_grad_stops_the_model(
    optimizer: Any, between: str, leftover: bool, seed: int
) -> tuple[bool, str]:
    model, built = build("A", ("trained", "trained"), optimizer, seed, between)
    train(model, built, 1)
    if not leftover:
        built.zero_grad()
    before = [each.clone() for each in model.state_dict().values()]
    with torch.no_grad():
        loss = loss_of(model)
    with suppress(RuntimeError):
        loss.backward()
    built.step()
    moved = difference(before, model.state_dict().values())
    return not moved, f"parameters and buffers, before and after: {moved or 'the same bits'}"


CLAIMS = (
    Claim(
        "no-grad-raises",
        {
            "fourth answer": "you can wrap the forward pass into a with torch.no_grad() block, "
            "which would raise an error, if you try to call backward() on the loss."
        },
        "After a forward pass that runs entirely under no_grad there is no graph, and backward "
        "raises RuntimeError.",
        {
            "layers": strategies.LAYERS,
            "between": strategies.BETWEEN,
            "inputs": st.booleans(),
            "seed": strategies.SEEDS,
        },
        no_grad_raises,
    ),
    Claim(
        "no-grad-stops-the-model",
        {
            "fourth question": "if you wanted to stop the whole model from updating",
            "fourth answer": "If you don't want to update any parameters in the model and thus "
            "don't want to create the computation graph",
        },
        "A model whose forward pass runs under no_grad keeps every parameter and buffer, even if "
        "the optimizer steps.",
        {
            "optimizer": strategies.OPTIMIZING,
            "between": st.sampled_from(("Tanh", "BatchNorm1d")),
            "leftover": st.booleans(),
            "seed": strategies.SEEDS,
        },
        no_grad_stops_the_model,
        "no gradient is left over from before, and no layer in train mode updates statistics (as "
        "batch norm does)",
        lambda between, leftover, **_: not leftover and between != "BatchNorm1d",
    ),
)
