"""The ids of the invariants: everything that names an invariant checks the name here."""

from typing import Literal, get_args

InvariantId = Literal[
    "frozen-weights-unchanged",
    "trainable-updates-match",
    "no-grad-allocated",
    "no-graph-below",
    "no-grad-backward-raises",
    "gradients-pass-through",
    "gradless-step-is-noop",
    "freeze-midway-holds",
    "thaw-resumes",
    "group-added-trains",
    "checkpoint-resumes",
    "flags-untouched",
    "closure-is-honoured",
    "zero-grad-clears",
    "repeats-itself",
    "trains-as-alone",
    "ranks-agree",
    "stale-grads-harmless",
    "stale-grads-accumulate",
    "buffers-hold-in-eval",
    "trainable-moves",
    "no-state-for-frozen",
    "cost-bounded",
]
"""In the order in which a property raises them: the user's four first, mere costs last.

The invariant `a-b` is `INVARIANT` in the module `frostproof.invariants.a_b`.
"""

IDS: tuple[InvariantId, ...] = get_args(InvariantId)
