"""Claims that zeroing what accumulates in B mends it, and that nothing else does."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from frostproof.applications.forum_claims.claim import Claim, Quote
from frostproof.applications.forum_claims.leftovers import cleared
from frostproof.applications.forum_claims.strategies import (
    ADDED,
    CLIPPED,
    LAYERS,
    SEEDS,
    UNLIMITED_OR,
)
from frostproof.applications.forum_claims.training import (
    build,
    difference_in_words,
    parameters_of,
    train,
)


def zeroing_suffices(
    layers: tuple[str, ...], optimizer: Any, steps: int, clip: Any, seed: int, zero: str
) -> tuple[bool, str]:
    a, built = build("A", layers, optimizer, seed)
    norms_a = train(a, built, steps, clip)
    b, _, norms_b = cleared(zero, layers, optimizer, steps, seed, clip)
    parted = difference_in_words(parameters_of(a, layers, "trained"), b)
    said = f"; the largest norm is {max(norms_a):.3g} in A, {max(norms_b):.3g} in B" if clip else ""
    return not parted, f"what A and B train: {parted or 'the same bits'}{said}"


def never_bites(clip: Any, optimizer: Any, **example: Any) -> bool:
    *_, norms = cleared(clip=clip, optimizer=optimizer, **example)
    return optimizer[0] == "Rprop" or all(clip >= norm + ADDED for norm in norms)


def zeroing_matters(clip: Any, **example: Any) -> tuple[bool, str]:
    (b, _, norms), (other, _, zeroed) = (
        cleared(zero, clip=clip, **example) for zero in ("its own", "all")
    )
    parted = difference_in_words(b, other)
    said = f"; the last norm is {norms[-1]:.3g}, and zeroed {zeroed[-1]:.3g}" if clip else ""
    return bool(parted), f"what is trained, zeroed and not: {parted or 'the same bits'}{said}"


def bites_later(clip: Any, optimizer: Any, **example: Any) -> bool:
    both = [
        cleared(zero, clip=clip, optimizer=optimizer, **example)[2] for zero in ("its own", "all")
    ]
    return optimizer[0] != "Rprop" and any(
        clip < norm + ADDED for norms in both for norm in norms[1:]
    )


_EXAMPLES = {
    "layers": LAYERS,
    "optimizer": CLIPPED,
    "steps": st.integers(1, 3),
    "clip": UNLIMITED_OR,
    "seed": SEEDS,
}

CLAIMS = (
    Claim(
        "zeroing-suffices",
        (
            Quote(
                "first answer",
                "You can follow your approach if you set to zero gradients (either manually or using a second optimizer).",
            ),
        ),
        "B with every gradient zeroed each step, by hand or by a second optimizer, trains with A's bits.",
        st.fixed_dictionaries({**_EXAMPLES, "zero": st.sampled_from(("second", "all"))}),
        zeroing_suffices,
        "no norm over all parameters of B exceeds the limit to which it is clipped, in which frozen gradients of the current step count "
        "too; or the optimizer reads only the signs of gradients (Rprop)",
        never_bites,
    ),
    Claim(
        "zeroing-matters",
        (Quote("first answer", "Otherwise, the first approach is the proper one."),),
        "B without such zeroing trains otherwise than with it.",
        st.fixed_dictionaries(_EXAMPLES),
        zeroing_matters,
        "the norm over all parameters is clipped, and exceeds the limit at a step after the first; and the optimizer reads more of "
        "gradients than their signs (not Rprop)",
        bites_later,
    ),
)
