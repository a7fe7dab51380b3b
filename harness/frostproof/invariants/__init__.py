"""The registry of invariants: one file each, one list for every door."""

from frostproof.invariants import (
    buffers_hold_in_eval,
    checkpoint_resumes,
    closure_is_honoured,
    cost_bounded,
    flags_untouched,
    freeze_midway_holds,
    frozen_weights_unchanged,
    gradients_pass_through,
    gradless_step_is_noop,
    group_added_trains,
    no_grad_allocated,
    no_grad_backward_raises,
    no_graph_below,
    no_state_for_frozen,
    repeats_itself,
    stale_grads_accumulate,
    stale_grads_harmless,
    thaw_resumes,
    trainable_moves,
    trainable_updates_match,
    zero_grad_clears,
)
from frostproof.invariants.breach import (
    HELD,
    NOT_JUDGED,
    Breach,
    Judgement,
    Judgements,
    ShownBreach,
)
from frostproof.invariants.invariant import Invariant, Severity, Violation

INVARIANTS: tuple[Invariant, ...] = (
    frozen_weights_unchanged.INVARIANT,
    trainable_updates_match.INVARIANT,
    no_grad_allocated.INVARIANT,
    no_graph_below.INVARIANT,
    no_grad_backward_raises.INVARIANT,
    gradients_pass_through.INVARIANT,
    gradless_step_is_noop.INVARIANT,
    freeze_midway_holds.INVARIANT,
    thaw_resumes.INVARIANT,
    group_added_trains.INVARIANT,
    checkpoint_resumes.INVARIANT,
    flags_untouched.INVARIANT,
    closure_is_honoured.INVARIANT,
    zero_grad_clears.INVARIANT,
    repeats_itself.INVARIANT,
    stale_grads_harmless.INVARIANT,
    stale_grads_accumulate.INVARIANT,
    buffers_hold_in_eval.INVARIANT,
    trainable_moves.INVARIANT,
    no_state_for_frozen.INVARIANT,
    cost_bounded.INVARIANT,
)
"""In the order in which a property raises them: the user's four first, what only costs last."""

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
    "sound": ("flags-untouched", "closure-is-honoured", "repeats-itself", "trainable-moves"),
}
"""What belongs together, for those who want a few tests and not one for each invariant. Every invariant is in one group."""

__all__ = [
    "BY_ID",
    "GROUPS",
    "HELD",
    "INVARIANTS",
    "NOT_JUDGED",
    "Breach",
    "Invariant",
    "Judgement",
    "Judgements",
    "Severity",
    "ShownBreach",
    "Violation",
]
