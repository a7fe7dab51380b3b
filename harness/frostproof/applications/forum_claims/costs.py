"""Claims about what A and B compute and keep: counted, not timed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from frostproof.applications.forum_claims.claim import Claim, Quote
from frostproof.applications.forum_claims.strategies import BETWEEN, LAST, LAYERS, SEEDS
from frostproof.applications.forum_claims.training import build, loss_of, parameters_of


def backward_of(
    approach: str, layers: tuple[str, ...], between: str, seed: int, only_trained: bool = False
) -> tuple[int, int]:
    """FLOPs of a backward pass, and bytes of the gradients that it leaves."""
    model, _ = build(approach, layers, seed=seed, between=between)
    loss = loss_of(model)
    with FlopCounterMode(display=False) as counter:
        loss.backward(inputs=parameters_of(model, layers, "trained") if only_trained else None)
    return counter.get_total_flops(), sum(
        each.grad.nbytes for each in model.parameters() if each.grad is not None
    )


def kept_for(approach: str, layers: tuple[str, ...], between: str, seed: int) -> int:
    """Bytes that a forward pass keeps for the backward pass, beside parameters; each storage counts once."""
    model, _ = build(approach, layers, seed=seed, between=between)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss_of(model)
    for parameter in model.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(kept.values())


def overhead(**example: Any) -> tuple[bool, str]:
    (a, _), (b, _) = (backward_of(approach, **example) for approach in "AB")
    return b > a, f"backward takes {a} FLOPs in A, {b} in B"


def trained_alone(layers: tuple[str, ...], **example: Any) -> tuple[bool, str]:
    flops, _ = backward_of("A", layers, **example)
    trained = layers.count("trained") * 2 * 4 * 3 * 3  # a batch of 4 times a weight of 3 x 3
    return (
        flops == trained,
        f"backward takes {flops} FLOPs in A, of which {trained} are for gradients of trained weights",
    )


def earlier_left_out(depth: int, way: str, between: str, seed: int) -> tuple[bool, str]:
    layers = ("frozen",) * (depth - 1) + ("trained",)
    approach = "A" if way == "requires_grad=False" else "B"
    flops, gradients = backward_of(
        approach, layers, between, seed, only_trained=way == "backward(inputs=...)"
    )
    last = (
        2 * 4 * 3 * 3,
        8 * (3 * 3 + 3),
    )  # a batch of 4 times a weight of 3 x 3, which with its bias has 12 elements
    said = f"backward takes {flops} FLOPs and leaves {gradients} bytes of gradients; the last layer needs {last[0]} and {last[1]}"
    return (flops, gradients) == last, said


def best_practice(**example: Any) -> tuple[bool, str]:
    (flops_a, gradients_a), (flops_b, gradients_b) = (
        backward_of(approach, **example) for approach in "AB"
    )
    kept_a, kept_b = (kept_for(approach, **example) for approach in "AB")
    said = f"A and B: {flops_a} and {flops_b} FLOPs, {kept_a} and {kept_b} bytes kept, {gradients_a} and {gradients_b} of gradients"
    return flops_a < flops_b and kept_a <= kept_b and gradients_a < gradients_b, said


def saves_memory(**example: Any) -> tuple[bool, str]:
    a, b = (kept_for(approach, **example) for approach in "AB")
    return a < b, f"bytes kept for the backward pass: {a} in A, {b} in B"


def keeps_less(layers: tuple[str, ...], between: str, **_: Any) -> bool:
    return layers[0] == "frozen" or between not in ("Tanh", "ReLU", "Sigmoid")


_EXAMPLES = {"layers": LAYERS, "between": BETWEEN, "seed": SEEDS}

CLAIMS = (
    Claim(
        "significant-overhead",
        (
            Quote(
                "second question",
                "So with my method I have a significant overhead, since the gradients are calculated anyways",
            ),
        ),
        "The backward pass takes more FLOPs in B than in A.",
        st.fixed_dictionaries(_EXAMPLES),
        overhead,
    ),
    Claim(
        "trained-layers-alone",
        (
            Quote(
                "second question",
                "whereas with the first approach only calculates the gradients for the layer I want to train?",
            ),
        ),
        "The backward pass of A computes the gradients of trained weights and no other matrix product.",
        st.fixed_dictionaries({**_EXAMPLES, "layers": LAST | LAYERS}),
        trained_alone,
        "the last layer is the only one that is trained: else gradients flow back to the first trained one through all layers behind it",
        lambda layers, **_: "trained" not in layers[:-1],
    ),
    Claim(
        "earlier-gradients-left-out",
        (
            Quote(
                "third answer",
                "If you only need to update the last layer, all previous gradients won't be calculated, if they are not needed.",
            ),
        ),
        "Where the last layer alone is trained, the backward pass computes its gradients and nothing else.",
        st.fixed_dictionaries(
            {
                "depth": st.integers(2, 5),
                "way": st.sampled_from(
                    ("requires_grad=False", "backward(inputs=...)", "passed to the optimizer alone")
                ),
                "between": BETWEEN,
                "seed": SEEDS,
            }
        ),
        earlier_left_out,
        "torch is told: by requires_grad=False or by backward(inputs=...), and not by the optimizer's parameters alone",
        lambda way, **_: way != "passed to the optimizer alone",
    ),
    Claim(
        "best-practice",
        (
            Quote(
                "first post",
                "Is the first method an agreed upon best practice or can I use my method?",
            ),
        ),
        "A takes fewer FLOPs in its backward pass than B and less memory for gradients, and never keeps more for the backward pass.",
        st.fixed_dictionaries(_EXAMPLES),
        best_practice,
    ),
    Claim(
        "freezing-saves-memory",
        (
            Quote(
                "third answer",
                "I would recommend to freeze the unwanted parameters to potentially save memory and computation.",
            ),
        ),
        "A keeps fewer bytes for the backward pass than B, parameters aside.",
        st.fixed_dictionaries(_EXAMPLES),
        saves_memory,
        "the first layer is frozen, or what follows each layer does not keep its output (as Tanh, ReLU and Sigmoid do)",
        keeps_less,
    ),
)
