"""Claims that B trains as A does if the accumulated gradients are zeroed, and only then."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from frostproof.applications.forum_claims import strategies
from frostproof.applications.forum_claims.claim import Claim
from frostproof.applications.forum_claims.leftovers import train_b
from frostproof.applications.forum_claims.training import build, difference, parameters_of, train


def zeroing_suffices(
    layers: tuple[str, ...], optimizer: Any, steps: int, clip: Any, seed: int, zero: str
) -> tuple[bool, str]:
    a, built = build("A", layers, optimizer, seed)
    norms_a = train(a, built, steps, clip)
    b, _, norms_b = train_b(zero, layers, optimizer, steps, seed, clip)
    differs = difference(parameters_of(a, layers, "trained"), b)
    norms = f"; the largest norms are {max(norms_a):.3g} and {max(norms_b):.3g}" if clip else ""
    return not differs, f"the trained parameters of A and B: {differs or 'the same bits'}{norms}"


def _never_over_the_limit_if_zeroed(clip: Any, optimizer: Any, **example: Any) -> bool:
    *_, norms = train_b(clip=clip, optimizer=optimizer, **example)
    return optimizer[0] == "Rprop" or all(clip >= norm + strategies.CLIP_EPSILON for norm in norms)


def zeroing_matters(clip: Any, **example: Any) -> tuple[bool, str]:
    (b, _, norms), (other, _, zeroed) = (
        train_b(zero, clip=clip, **example) for zero in ("its own", "all")
    )
    differs = difference(b, other)
    last = f"; the last norms are {norms[-1]:.3g} and {zeroed[-1]:.3g}" if clip else ""
    return bool(differs), f"B without zeroing and with it: {differs or 'the same bits'}{last}"


def _over_the_limit_later(clip: Any, optimizer: Any, **example: Any) -> bool:
    both = [
        train_b(zero, clip=clip, optimizer=optimizer, **example)[2] for zero in ("its own", "all")
    ]
    later = [norm for norms in both for norm in norms[1:]]
    return optimizer[0] != "Rprop" and any(clip < norm + strategies.CLIP_EPSILON for norm in later)


_EXAMPLES = {
    "layers": strategies.LAYERS,
    "optimizer": strategies.SIGN_OR_SIZE,
    "steps": st.integers(1, 3),
    "clip": strategies.UNLIMITED_OR,
    "seed": strategies.SEEDS,
}

CLAIMS = (
    Claim(
        "zeroing-suffices",
        {
            "first answer": "You can follow your approach if you set to zero gradients (either "
            "manually or using a second optimizer)."
        },
        "B trains to the same bits as A if every gradient is zeroed before each step, by hand or "
        "by a second optimizer.",
        {**_EXAMPLES, "zero": st.sampled_from(("second", "all"))},
        zeroing_suffices,
        "no norm over all parameters of B exceeds its clipping limit (the norm includes the frozen "
        "gradients of the current step), or the optimizer reads only the signs of gradients "
        "(Rprop)",
        _never_over_the_limit_if_zeroed,
    ),
    Claim(
        "zeroing-matters",
        {"first answer": "Otherwise, the first approach is the proper one."},
        "B without such zeroing trains differently from B with it.",
        _EXAMPLES,
        zeroing_matters,
        "the norm over all parameters is clipped and exceeds the limit at a step after the first, "
        "and the optimizer reads more than the signs of gradients (Rprop does not)",
        _over_the_limit_later,
    ),
)
