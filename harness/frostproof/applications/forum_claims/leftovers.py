"""Claims about the gradients that nobody clears in B."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from frostproof.applications.forum_claims.claim import Claim, Quote
from frostproof.applications.forum_claims.strategies import (
    FOLLOWED,
    LAYERS,
    OPTIMIZING,
    SEEDS,
    SIZED,
)
from frostproof.applications.forum_claims.training import (
    build,
    difference_in_words,
    loss_of,
    parameters_of,
    train,
)


def cleared(
    zero: str, layers: tuple[str, ...], optimizer: Any, steps: int, seed: int, clip: Any = None
) -> Any:
    """What B trains, the largest gradient that it leaves elsewhere, and the norms of all where they are clipped."""
    model, built = build("B", layers, optimizer, seed)
    frozen = parameters_of(model, layers, "frozen")
    second = torch.optim.SGD(frozen)
    norms = train(
        model,
        built,
        steps,
        clip,
        {"its own": (built,), "all": (model,), "second": (built, second)}[zero],
    )
    return (
        parameters_of(model, layers, "trained"),
        max(float(each.grad.abs().max()) for each in frozen),
        norms,
    )


def wrong_later(**example: Any) -> tuple[bool, str]:
    (b, left, _), (other, _, _) = cleared("its own", **example), cleared("all", **example)
    parted = difference_in_words(b, other)
    return bool(
        parted
    ), f"what is trained: {parted or 'the same bits'}, with gradients of up to {left:.3g} left over"


def previous_affected(**example: Any) -> tuple[bool, str]:
    (b, left, _), (other, _, _) = cleared("its own", **example), cleared("all", **example)
    parted = difference_in_words([each.grad for each in b], [each.grad for each in other])
    return (
        bool(parted),
        f"gradients of trained layers: {parted or 'the same bits'}, with others of up to {left:.3g} left over",
    )


def swapped(how: str, layers: tuple[str, ...], optimizer: Any, steps: int, seed: int) -> Any:
    """The parameters after B's `steps` and one of a new optimizer over all of them."""
    (model, old), (name, options) = build("B", layers, optimizer, seed), optimizer
    train(model, old, steps)
    new = getattr(torch.optim, name)(model.parameters(), lr=0.1, **options)
    for each in {"nothing": (), "old": (old,), "new": (new,), "model": (model,)}[how]:
        each.zero_grad()
    loss_of(model, steps).backward()
    new.step()
    return list(model.parameters())


def edge_case(zeroed: str, **example: Any) -> tuple[bool, str]:
    parted = difference_in_words(swapped(zeroed, **example), swapped("model", **example))
    return bool(
        parted
    ), f"the first update of all parameters, and the right one: {parted or 'the same bits'}"


_EXAMPLES = {"layers": LAYERS, "optimizer": OPTIMIZING, "steps": st.integers(2, 4), "seed": SEEDS}

CLAIMS = (
    Claim(
        "wrong-after-the-first-step",
        (
            Quote(
                "third question",
                "the gradient update of the trainable parameters will get wrong after the initial step, since its never been cleared?",
            ),
        ),
        "In B what is trained differs from what it is where all gradients are cleared each step.",
        st.fixed_dictionaries(_EXAMPLES),
        wrong_later,
    ),
    Claim(
        "previous-layers-affected",
        (
            Quote(
                "second answer",
                "This is ok if you don't have previous trainable parameters, otherwise they will be affected by this gradient "
                "accumulation.",
            ),
        ),
        "In B what accumulates in a layer changes the gradients of trained layers before it.",
        st.fixed_dictionaries({**_EXAMPLES, "layers": FOLLOWED}),
        previous_affected,
    ),
    Claim(
        "edge-case",
        (
            Quote(
                "third answer",
                "Should you change the optimizer and suddenly want to update all parameters, this update might be wrong. "
                "Note that this is an edge case.",
            ),
        ),
        "After B, the first update of a new optimizer over all parameters is not the one that their fresh gradients make.",
        st.fixed_dictionaries(
            {
                "steps": st.sampled_from((1, 2, 3, 0)),
                "zeroed": st.sampled_from(("nothing", "old", "new", "model")),
                "layers": LAYERS,
                "optimizer": SIZED,
                "seed": SEEDS,
            }
        ),
        edge_case,
        "there was a step in B, and nothing, or only the old optimizer, zeroes gradients before the backward pass",
        lambda zeroed, steps, **_: steps > 0 and zeroed in ("nothing", "old"),
    ),
)
