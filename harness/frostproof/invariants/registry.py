"""The registry of invariants: each has a file of its own, and every door reads this list."""

from importlib import import_module

from frostproof.invariants.invariant import Invariant
from frostproof.spec.ids import IDS


def _invariant(identity: str) -> Invariant:
    module = import_module(f"frostproof.invariants.{identity.replace('-', '_')}")
    invariant: Invariant = module.INVARIANT
    return invariant


INVARIANTS = tuple(map(_invariant, IDS))
BY_ID = {invariant.id: invariant for invariant in INVARIANTS}

GROUPS: dict[str, tuple[str, ...]] = {
    "frozen": (
        "frozen-weights-unchanged",
        "gradless-step-is-noop",
        "freeze-midway-holds",
        "buffers-hold-in-eval",
        "no-state-for-frozen",
    ),
    "equivalent": (
        "trainable-updates-match",
        "stale-grads-harmless",
        "stale-grads-accumulate",
        "gradients-pass-through",
    ),
    "gradients": (
        "no-grad-allocated",
        "no-graph-below",
        "no-grad-backward-raises",
        "zero-grad-clears",
        "cost-bounded",
    ),
    "thawed": ("thaw-resumes", "group-added-trains"),
    "resumed": ("checkpoint-resumes",),
    "sound": (
        "flags-untouched",
        "closure-is-honoured",
        "repeats-itself",
        "trains-as-alone",
        "ranks-agree",
        "compiled-step-agrees",
        "compiled-step-settles",
        "trainable-moves",
    ),
}
"""Groups of invariants, for users who want a few tests and not one for each invariant. Every
invariant is in one group."""
