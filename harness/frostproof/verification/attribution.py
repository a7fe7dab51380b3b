"""Attribution: whether freezing is the cause of a breach, or an explanation holds without it.

Explanations are tested by running the case again in other ways (`reruns.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from frostproof.invariants.assertions import RAISES
from frostproof.invariants.invariant import Breach, Invariant, ShownBreach
from frostproof.invariants.movement import moves
from frostproof.invariants.registry import BY_ID
from frostproof.optimizers.nothing_frozen import refuses_empty_list
from frostproof.spec.program import Step
from frostproof.spec.setting import EAGER
from frostproof.spec.subject import Subject
from frostproof.training.bits import finite
from frostproof.training.observation import Trial
from frostproof.verification.reruns import AGREES, REPEATS, Reruns


class Explanation(NamedTuple):
    """A cause of a breach other than freezing."""

    id: str

    sentence: str
    """What it says. docs/programs.md says how it is tried."""

    concerns: Callable[[Invariant, ShownBreach, Subject], bool]
    """Whether it may explain a breach."""

    holds: Callable[[Reruns, Invariant, ShownBreach], bool]
    """Whether it does, which may need reruns."""


def _crash(invariant: Invariant, shown: ShownBreach, subject: Subject) -> bool:
    return shown.breach.kind.raises


def _compares(invariant: Invariant, shown: ShownBreach, subject: Subject) -> bool:
    return invariant.compares and not shown.breach.kind.raises and not shown.breach.kind.stuck


def _overflowed(reruns: Reruns, invariant: Invariant, shown: ShownBreach) -> bool:
    crash = shown.trial.crash
    if crash is None or crash.grads_at_step is None:
        return False
    gradients = filter(None, crash.grads_at_step)
    return not all(finite(gradient, reruns.case.dtype) for gradient in gradients)


def _raises_too(reruns: Reruns, invariant: Invariant, shown: ShownBreach) -> bool:
    empty = shown.crash.phase in ("build", "regroup") and reruns.subject.takes == "two-lists"
    raises = reruns.control.trial.crash is not None
    return raises or (empty and refuses_empty_list(reruns.subject, reruns.device))


def _rounds(reruns: Reruns, invariant: Invariant, shown: ShownBreach) -> bool:
    return reruns.subject.rounding is None and invariant not in reruns.rounded.violated


def _amplifies(reruns: Reruns, invariant: Invariant, shown: ShownBreach) -> bool:
    if invariant is AGREES:
        return reruns.amplifies_single_precision
    if reruns.subject.rounding is not None:
        return reruns.depends_on_order or reruns.depends_on_rounding
    return bool(reruns.rounded.trial.rounding) and reruns.depends_on_order_without_freezing


def _stuck_too(reruns: Reruns, invariant: Invariant, shown: ShownBreach) -> bool:
    i, number = shown.parameter, shown.breach.found
    control: Trial = reruns.control.trial
    return not any(moves(record, "a", i) for record in control.records[number : number + 1])


EXPLANATIONS = (
    Explanation(
        "non-finite-gradient",
        "The optimizer raised when a gradient was infinite or NaN.",
        _crash,
        _overflowed,
    ),
    Explanation(
        "raises-without-optimizer",
        "The model, as the setting wraps it, also raises in this case without an optimizer.",
        _crash,
        lambda reruns, invariant, shown: (
            shown.crash.phase in ("forward", "backward")
            and reruns.without_optimizer.trial.crash is not None
        ),
    ),
    Explanation(
        "raises-without-freezing",
        "The optimizer also raises with nothing frozen and no gradient dropped.",
        lambda invariant, shown, subject: shown.breach.kind.raises and invariant.freezing,
        _raises_too,
    ),
    Explanation(
        "compiled-beside-others",
        "Compiled, the training does not raise if no other one is compiled in the same process.",
        lambda invariant, shown, subject: shown.breach.kind.raises and subject.setting.compiles,
        lambda reruns, invariant, shown: not reruns.raises_by_itself,
    ),
    Explanation(
        "refuses-unlike-rates",
        "With nothing frozen, it also raises if the learning rates of its groups differ.",
        _crash,
        lambda reruns, invariant, shown: reruns.refuses_unlike_rates,
    ),
    Explanation(
        "nondeterministic-kernels",
        "Forward and backward of this case differ from run to run without an optimizer.",
        _compares,
        lambda reruns, invariant, shown: bool(reruns.unlike_runs) and reruns.kernels_vary,
    ),
    Explanation(
        "does-not-repeat",
        "The optimizer does not repeat itself, which repeats-itself reports.",
        lambda invariant, shown, subject: (
            _compares(invariant, shown, subject) and invariant is not REPEATS
        ),
        lambda reruns, invariant, shown: reruns.unlike_runs is not None,
    ),
    Explanation(
        "known-not-to-repeat",
        "The optimizer is known to read memory or random numbers that are not its own.",
        lambda invariant, shown, subject: (
            _compares(invariant, shown, subject) and invariant is not REPEATS
        ),
        lambda reruns, invariant, shown: (
            reruns.subject.factory is not None
            and "repeats-itself" in reruns.subject.expected_failures
        ),
    ),
    Explanation(
        "depends-on-grouping",
        "With nothing frozen, other groups of the same parameters also make other weights.",
        _compares,
        lambda reruns, invariant, shown: reruns.depends_on_grouping,
    ),
    Explanation(
        "weights-overflowed",
        "The weight that moved was infinite or NaN before.",
        lambda invariant, shown, subject: shown.breach.kind.id == "moved",
        lambda reruns, invariant, shown: not finite(shown.expected, reruns.case.dtype),
    ),
    Explanation(
        "ranks-rewrite-embedding",
        "Each rank rewrites the rows of the embedding that it uses, so that ranks differ.",
        lambda invariant, shown, subject: (
            subject.setting.ranks > 1 and shown.breach.kind.id == "moved"
        ),
        lambda reruns, invariant, shown: all(
            reruns.case.parameters[i].renormed for i in shown.breach.parameters
        ),
    ),
    Explanation("rounding-only", "The difference is as small as rounding.", _compares, _rounds),
    Explanation(
        "amplifies-rounding",
        "The optimizer also amplifies rounding differences with nothing frozen.",
        _compares,
        _amplifies,
    ),
    Explanation(
        "does-not-move-without-freezing",
        "The parameter does not move at that event with nothing frozen either.",
        lambda invariant, shown, subject: shown.breach.kind.stuck,
        _stuck_too,
    ),
    Explanation(
        "same-without-optimizer",
        "In its setting, the model violates the same invariant without an optimizer.",
        lambda invariant, shown, subject: (
            subject.setting is not EAGER
            and subject.factory is not None
            and not invariant.needs_optimizer
            and not shown.breach.kind.raises
        ),
        lambda reruns, invariant, shown: invariant in reruns.without_optimizer.violated,
    ),
    Explanation(
        "same-without-freezing",
        "The same invariant is violated with nothing frozen.",
        lambda invariant, shown, subject: invariant.freezing and not shown.breach.kind.raises,
        lambda reruns, invariant, shown: (
            invariant in reruns.control.violated and not reruns.control.trial.case.mask
        ),
    ),
)
"""They are tried in this order, and the first that holds explains a breach."""


def attribute(
    reruns: Reruns, violated: dict[Invariant, ShownBreach]
) -> tuple[dict[Invariant, ShownBreach], list[tuple[Invariant, str]]]:
    """Split breaches into violations and breaches that are explained, with the explanation's id.

    A crash is a breach too, of the invariant that it violates.
    """
    found, explained = dict(violated), []
    if reruns.outcome.trial.crash is not None:
        invariant, shown = _crash_breach(reruns)
        found[invariant] = shown
    left: dict[Invariant, ShownBreach] = {}
    for invariant, shown in found.items():
        reasons = (
            each.id
            for each in EXPLANATIONS
            if each.concerns(invariant, shown, reruns.subject)
            and each.holds(reruns, invariant, shown)
        )
        reason = next(reasons, None)
        if reason is None:
            left[invariant] = shown
        else:
            explained.append((invariant, reason))
            if reason == "does-not-repeat" and reruns.unlike_runs is not None:
                left[REPEATS] = reruns.unlike_runs
    return left, explained


def _crash_breach(reruns: Reruns) -> tuple[Invariant, ShownBreach]:
    """The invariant that a crash violates. It is found by more runs only if the control runs."""
    trial = reruns.outcome.trial
    crash = trial.crash
    assert crash is not None
    control = reruns.control.trial.crash
    closes = any(event.closure for event in reruns.case.program if isinstance(event, Step))
    if control is not None and closes and reruns.control_without_closure.trial.crash is None:
        # The control shows it, where freezing cannot be the cause.
        breach = Breach(
            RAISES, (control.role,), control.index, expected="without a closure it does not raise"
        )
        honoured = BY_ID["closure-is-honoured"]
        return honoured, ShownBreach(reruns.control.trial, breach, honoured, reruns.device)
    identity = "gradless-step-is-noop" if control is not None else reruns.crashed_invariant
    invariant = BY_ID[identity]
    breach = Breach(
        RAISES,
        (crash.role,),
        crash.index,
        expected="with nothing frozen and every gradient there it does not raise",
    )
    return invariant, ShownBreach(trial, breach, invariant, reruns.device)
