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
    "compiled-step-agrees",
    "compiled-step-settles",
    "stale-grads-harmless",
    "stale-grads-accumulate",
    "buffers-hold-in-eval",
    "trainable-moves",
    "no-state-for-frozen",
    "cost-bounded",
]
"""In the order of tables: the user's four first, mere costs last.

The invariant `a-b` is `INVARIANT` in the module `frostproof.invariants.a_b`.
"""

IDS: tuple[InvariantId, ...] = get_args(InvariantId)

_MOST_DIRECT: tuple[InvariantId, ...] = (
    # They name what was done to a frozen parameter, or to what the user owns.
    "frozen-weights-unchanged",
    "freeze-midway-holds",
    "gradless-step-is-noop",
    "flags-untouched",
    "no-grad-allocated",
    "buffers-hold-in-eval",
    # They name the operation that went wrong.
    "no-grad-backward-raises",
    "closure-is-honoured",
    "zero-grad-clears",
    "checkpoint-resumes",
    "group-added-trains",
    "thaw-resumes",
    "stale-grads-accumulate",
    "no-graph-below",
    # Two trainings differ. Where one does not repeat itself, all others differ too.
    "repeats-itself",
    "ranks-agree",
    "stale-grads-harmless",
    "gradients-pass-through",
    "trains-as-alone",
    "compiled-step-agrees",
    "trainable-updates-match",
    "trainable-moves",
    # No weight is wrong.
    "compiled-step-settles",
    "no-state-for-frozen",
    "cost-bounded",
)


def directness(identity: str) -> int:
    """The place of an invariant among violations of one optimizer, which are shown in this order.

    The first one names the fault, and later ones what follows from it. Unknown ids come last.

    >>> directness("frozen-weights-unchanged") < directness("trainable-updates-match")
    True
    """
    return _DIRECTNESS.get(identity, len(_DIRECTNESS))


_DIRECTNESS: dict[str, int] = {each: place for place, each in enumerate(_MOST_DIRECT)}


def name_of_way(target: str) -> str:
    """What reports and scripts call the way at `module:name`.

    >>> name_of_way("mylib.finetune:_freeze")
    'freeze'
    """
    return target.partition(":")[2].strip("_")
