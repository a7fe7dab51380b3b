"""Claims about leaves, intermediate nodes and their gradients."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from hypothesis import strategies as st

from frostproof.applications.forum_claims import strategies
from frostproof.applications.forum_claims.claim import Claim
from frostproof.applications.forum_claims.training import build


def frozen_leaves_make_leaves(
    layers: tuple[str, ...], between: str, inputs: bool, seed: int
) -> tuple[bool, str]:
    model, _ = build("A", layers, seed=seed, between=between)
    nodes: list[Any] = []
    for module in model.modules():
        module.register_forward_hook(lambda module, inputs, output: nodes.append(output))
    model(torch.randn(4, 3, dtype=torch.float64, requires_grad=inputs))
    leaves = sum(not node.requires_grad and node.is_leaf and node.grad_fn is None for node in nodes)
    expected = "trained" not in layers and not inputs
    seen = f"{leaves} of {len(nodes)} intermediate nodes are leaves that do not require grad"
    return (leaves == len(nodes)) == expected, seen


def necessary_nodes_only(layers: tuple[str, ...], unused: int, seed: int) -> tuple[bool, str]:
    model, _ = build("A", layers, seed=seed)
    node, nodes = torch.randn(4, 3, dtype=torch.float64), []
    for block in model:
        node = block(node)
        if node.requires_grad:
            node.retain_grad()
        nodes.append(node)
    loss = nodes[-1 - unused].square().mean()  # the loss may not depend on the last node
    if loss.requires_grad:
        loss.backward()
    connected = ["trained" in layers[: place + 1] for place in range(len(layers))]
    with_grad = [each.requires_grad and each.grad is not None for each in nodes]
    seen = f"of {len(nodes)} nodes, {sum(connected)} are connected, "
    return with_grad == connected, f"{seen}and {sum(with_grad)} get a gradient"


def frozen_leaves_get_nothing(
    layers: tuple[str, ...], between: str, inputs: bool, seed: int
) -> tuple[bool, str]:
    model, _ = build("A", layers, seed=seed, between=between)
    batch = torch.randn(4, 3, dtype=torch.float64, requires_grad=inputs)
    with suppress(RuntimeError):
        model(batch).square().mean().backward()
    count = sum(each.grad is not None for each in (*model.parameters(), batch))
    expected = "trained" in layers or inputs
    seen = f"{count} of the {2 * len(layers)} parameters and the batch have a gradient"
    return (count > 0) == expected, seen


_EXAMPLES = {
    "layers": strategies.ANY_LAYERS,
    "between": strategies.BETWEEN,
    "inputs": st.booleans(),
    "seed": strategies.SEEDS,
}

CLAIMS = (
    Claim(
        "frozen-leaves-make-leaves",
        {
            "last post": "if all leaves nodes (which are usually parameters and inputs) have "
            "requires_grad=False, then all intermediate nodes will have requires_grad=False and "
            "therefore, the intermediate nodes are also considered leaves as well."
        },
        "All intermediate nodes are leaves that do not require grad if and only if no parameter "
        "and no input requires grad.",
        _EXAMPLES,
        frozen_leaves_make_leaves,
    ),
    Claim(
        "necessary-nodes-only",
        {
            "last post": "even if some nodes have requires_grad = True, only the gradient is "
            "computed for the necessary intermediate nodes that are connected to the nodes with "
            "requires_grad = True."
        },
        "An intermediate node gets a gradient if and only if it is computed from a leaf that "
        "requires grad.",
        {"layers": strategies.LAYERS, "unused": st.integers(0, 1), "seed": strategies.SEEDS},
        necessary_nodes_only,
        "the loss is computed from every such node",
        lambda unused, **_: not unused,
    ),
    Claim(
        "frozen-leaves-get-nothing",
        {
            "last post": "in many models (at least sequential ones) no gradient is computed if "
            "requires_grad=False for weights and inputs."
        },
        "A backward pass leaves gradients if and only if a parameter or the input requires grad.",
        _EXAMPLES,
        frozen_leaves_get_nothing,
    ),
)
