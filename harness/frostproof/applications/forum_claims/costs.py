"""Claims about what A and B compute and keep: counted, not timed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from frostproof.applications.forum_claims import strategies
from frostproof.applications.forum_claims.claim import Claim
from frostproof.applications.forum_claims.training import build, loss_of, parameters_of


def backward_costs(
    approach: str, layers: tuple[str, ...], between: str, seed: int, only_trained: bool = False
) -> tuple[int, int]:
    """The FLOPs of a backward pass, and the bytes of the gradients that it leaves."""
    model, _ = build(approach, layers, seed=seed, between=between)
    loss = loss_of(model)
    with FlopCounterMode(display=False) as counter:
        loss.backward(inputs=parameters_of(model, layers, "trained") if only_trained else None)
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    return counter.get_total_flops(), sum(each.nbytes for each in gradients)


def saved_bytes(approach: str, layers: tuple[str, ...], between: str, seed: int) -> int:
    """The bytes that a forward pass saves for the backward pass, without parameters.

    A storage that is saved twice counts once.
    """
    model, _ = build(approach, layers, seed=seed, between=between)
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss_of(model)
    for parameter in model.parameters():
        saved.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(saved.values())


def significant_overhead(**example: Any) -> tuple[bool, str]:
    (a, _), (b, _) = (backward_costs(approach, **example) for approach in "AB")
    return b > a, f"backward takes {a} FLOPs in A, {b} in B"


def trained_layers_alone(layers: tuple[str, ...], **example: Any) -> tuple[bool, str]:
    flops, _ = backward_costs("A", layers, **example)
    trained = layers.count("trained") * 2 * 4 * 3 * 3  # a batch of 4 times a weight of 3 x 3
    seen = f"backward takes {flops} FLOPs in A, {trained} of them for gradients of trained weights"
    return flops == trained, seen


def earlier_gradients_left_out(depth: int, way: str, between: str, seed: int) -> tuple[bool, str]:
    layers = ("frozen",) * (depth - 1) + ("trained",)
    approach = "A" if way == "requires_grad=False" else "B"
    only_trained = way == "backward(inputs=...)"
    flops, gradients = backward_costs(approach, layers, between, seed, only_trained)
    # A batch of 4 times a weight of 3 x 3, which has 12 elements together with its bias.
    least = (2 * 4 * 3 * 3, 8 * (3 * 3 + 3))
    seen = f"backward takes {flops} FLOPs and leaves {gradients} bytes of gradients"
    return (flops, gradients) == least, f"{seen}; the last layer needs {least[0]} and {least[1]}"


def best_practice(**example: Any) -> tuple[bool, str]:
    (flops_a, gradients_a), (flops_b, gradients_b) = (
        backward_costs(approach, **example) for approach in "AB"
    )
    saved_a, saved_b = (saved_bytes(approach, **example) for approach in "AB")
    seen = f"A and B: {flops_a} and {flops_b} FLOPs, {saved_a} and {saved_b} bytes saved, "
    seen += f"{gradients_a} and {gradients_b} bytes of gradients"
    return flops_a < flops_b and saved_a <= saved_b and gradients_a < gradients_b, seen


def freezing_saves_memory(**example: Any) -> tuple[bool, str]:
    a, b = (saved_bytes(approach, **example) for approach in "AB")
    return a < b, f"bytes saved for the backward pass: {a} in A, {b} in B"


def _saves_less(layers: tuple[str, ...], between: str, **_: Any) -> bool:
    return layers[0] == "frozen" or between not in ("Tanh", "ReLU", "Sigmoid")


_EXAMPLES = {"layers": strategies.LAYERS, "between": strategies.BETWEEN, "seed": strategies.SEEDS}

CLAIMS = (
    Claim(
        "significant-overhead",
        {
            "second question": "So with my method I have a significant overhead, since the "
            "gradients are calculated anyways"
        },
        "The backward pass takes more FLOPs in B than in A.",
        _EXAMPLES,
        significant_overhead,
    ),
    Claim(
        "trained-layers-alone",
        {
            "second question": "whereas with the first approach only calculates the gradients for "
            "the layer I want to train?"
        },
        "The backward pass of A computes the gradients of trained weights and no other matrix "
        "product.",
        {**_EXAMPLES, "layers": strategies.LAST | strategies.LAYERS},
        trained_layers_alone,
        "the last layer is the only trained one: otherwise gradients flow back to the first "
        "trained layer through all layers behind it",
        lambda layers, **_: "trained" not in layers[:-1],
    ),
    Claim(
        "earlier-gradients-left-out",
        {
            "third answer": "If you only need to update the last layer, all previous gradients "
            "won't be calculated, if they are not needed."
        },
        "If only the last layer is trained, the backward pass computes its gradients and nothing "
        "else.",
        {
            "depth": st.integers(2, 5),
            "way": st.sampled_from(
                ("requires_grad=False", "backward(inputs=...)", "passed to the optimizer alone")
            ),
            "between": strategies.BETWEEN,
            "seed": strategies.SEEDS,
        },
        earlier_gradients_left_out,
        "torch is told by requires_grad=False or by backward(inputs=...): the choice of the "
        "optimizer's parameters is not enough",
        lambda way, **_: way != "passed to the optimizer alone",
    ),
    Claim(
        "best-practice",
        {"first post": "Is the first method an agreed upon best practice or can I use my method?"},
        "A takes fewer FLOPs in its backward pass than B, needs less memory for gradients, and "
        "never saves more for the backward pass.",
        _EXAMPLES,
        best_practice,
    ),
    Claim(
        "freezing-saves-memory",
        {
            "third answer": "I would recommend to freeze the unwanted parameters to potentially "
            "save memory and computation."
        },
        "A saves fewer bytes for the backward pass than B, without counting parameters.",
        _EXAMPLES,
        freezing_saves_memory,
        "the first layer is frozen, or the activation functions do not save their output (as Tanh, "
        "ReLU and Sigmoid do)",
        _saves_less,
    ),
)
