"""Attribution: whether freezing is the cause of a breach, or an explanation holds without it.

Explanations are tested by running the case again in other ways. The most important one is the
control: the same network, groups, hyperparameters, learning rates and events, with nothing frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

from frostproof.approaches.approach import (
    Approach,
    Approaches,
    RequiresGradNudged,
    RequiresGradReversed,
)
from frostproof.generation.cases import with_late_groups
from frostproof.invariants.assertions import RAISES
from frostproof.invariants.invariant import Breach, Invariant, ShownBreach
from frostproof.invariants.movement import moves
from frostproof.invariants.registry import BY_ID, INVARIANTS
from frostproof.optimizers.nothing_frozen import refuses_empty_list
from frostproof.process.device import is_accelerator
from frostproof.spec.case import Case, Group
from frostproof.spec.program import AddFrozen, Freeze, Schedule, Step, Thaw
from frostproof.spec.subject import AUTOGRAD, Subject
from frostproof.training.bits import finite
from frostproof.training.observation import Trial
from frostproof.trial.lockstep import Outcome, run_trial

NUDGES = 16
"""Number of random changes of the gradients' last digits, each of which shows with a chance of
about 1/3 that the optimizer amplifies rounding."""

REPEATS, MATCHES = BY_ID["repeats-itself"], BY_ID["trainable-updates-match"]


class Reruns:
    """A case that shows a breach, and what other runs of it show.

    A run is made when an explanation first needs it, and its result is kept.
    """

    def __init__(
        self,
        outcome: Outcome,
        subject: Subject,
        device: str,
        approaches: Approaches,
        muted: Collection[str] = (),
    ) -> None:
        self.outcome, self.case = outcome, outcome.trial.case
        self.subject, self.device, self.approaches = subject, device, approaches
        self.muted = muted

    def run(
        self,
        case: Case,
        subject: Subject | None = None,
        invariants: Collection[Invariant] = INVARIANTS,
    ) -> Outcome:
        return run_trial(
            case,
            subject or self.subject,
            self.device,
            tuple(invariants),
            self.approaches,
            muted=self.muted,
        )

    def _control_of(self, case: Case, closure: bool | None = None) -> Outcome:
        fit = [invariant for invariant in INVARIANTS if invariant.judges(self.subject)]
        muted = [invariant.id for invariant in fit]  # so that no violation ends it
        return run_trial(
            case.control(closure),
            self.subject,
            self.device,
            fit,
            Approaches(),
            muted=muted,
            watched=self.case.frozen_midway,
        )

    @cached_property
    def control(self) -> Outcome:
        """Nothing is frozen, no gradient is dropped, and A runs twice."""
        return self._control_of(self.case)

    @cached_property
    def control_without_closure(self) -> Outcome:
        return self._control_of(self.case, closure=False)

    @cached_property
    def repeats(self) -> bool:
        """Whether the second run of the control equals the first."""
        return REPEATS not in self.control.violated

    @cached_property
    def kernels_vary(self) -> bool:
        """Whether forward and backward differ from run to run without an optimizer."""
        if self.subject.factory is None:
            return is_accelerator(self.device)
        plain = run_trial(self.case.control(), AUTOGRAD, self.device, (REPEATS,), Approaches())
        return REPEATS in plain.violated

    @cached_property
    def depends_on_grouping(self) -> bool:
        """Whether, with nothing frozen, groups of their own for thawed parameters matter."""
        grouped = self.case.replaced(
            groups=with_late_groups(self.case.groups, self.case.mask, self.case.program)
        )
        if grouped.groups == self.case.groups:
            return False
        one, other = self.control.trial, self._control_of(grouped).trial
        return [record.observations["a"].weights for record in one.records] != [
            record.observations["a"].weights for record in other.records
        ]

    @cached_property
    def refuses_unlike_rates(self) -> bool:
        """Whether, with nothing frozen, the optimizer raises if its learning rates differ."""
        crash = self.outcome.trial.crash
        if (
            crash is None
            or len(set(crash.learning_rates)) < 2
            or self.control.trial.crash is not None
        ):
            return False
        first = self.case.groups[0]
        names = [group.parameters for group in self.case.groups]
        if len(names) == 1:
            names = list(filter(None, (first.parameters[::2], first.parameters[1::2])))
        options = tuple((name, value) for name, value in first.options if name != "lr")
        groups = tuple(
            Group(members, (*options, ("lr", 0.1 / (1 + i)))) for i, members in enumerate(names)
        )
        # A scheduler may give all groups one rate again.
        program = tuple(each for each in self.case.program if not isinstance(each, Schedule))
        control = self._control_of(self.case.replaced(groups=groups, program=program))
        return control.trial.crash is not None

    @cached_property
    def rounded(self) -> Outcome:
        """The same case, with differences of rounding size allowed."""
        return self.run(self.case, replace(self.subject, rounding=self.subject.rounding or "seen"))

    @cached_property
    def depends_on_order(self) -> bool:
        """Whether another order of the parameters makes more than a rounding difference."""
        return self._diverges_from_a(self.case, RequiresGradReversed())

    @cached_property
    def depends_on_order_without_freezing(self) -> bool:
        return self._diverges_from_a(self.case.control(), RequiresGradReversed())

    @cached_property
    def depends_on_rounding(self) -> bool:
        """Whether the last digits of the gradients make more than a rounding difference."""
        return any(
            self._diverges_from_a(self.case, RequiresGradNudged(seed=seed))
            for seed in range(NUDGES)
        )

    def _diverges_from_a(self, case: Case, other: Approach) -> bool:
        """Whether A and a variant of it differ by more than rounding."""
        subject = replace(self.subject, rounding=self.subject.rounding or "seen")
        return (
            MATCHES
            in run_trial(
                case.replaced(extras=()), subject, self.device, (MATCHES,), Approaches(b=other)
            ).violated
        )

    @cached_property
    def crashed_invariant(self) -> str:
        """The id of the invariant that a crash violates, by the events without which it ends."""
        crash = self.outcome.trial.crash
        assert crash is not None
        if crash.phase == "zero_grad":
            return "zero-grad-clears"
        if crash.role.startswith("resumed"):
            return "checkpoint-resumes"
        if crash.index < 0:
            return "gradless-step-is-noop"
        if isinstance(self.case.program[crash.index], AddFrozen):
            return "group-added-trains"
        so_far = self.case.replaced(program=self.case.program[: crash.index + 1])
        owns_all = crash.role in ("a", "again")
        undropped = so_far.without_drops()
        if undropped != so_far and not self._crashes(undropped):
            return "gradless-step-is-noop"
        if so_far.thawed and not self._crashes(so_far.without(Thaw)):
            # A owns thawed parameters from the start; other roles add them to the optimizer.
            added = not owns_all and self._crashes(so_far.without(Freeze))
            return "group-added-trains" if added else "thaw-resumes"
        if so_far.frozen_midway and not self._crashes(so_far.without(Freeze)):
            return "gradless-step-is-noop" if owns_all else "freeze-midway-holds"
        return "gradless-step-is-noop"

    def _crashes(self, case: Case) -> bool:
        return self.run(case, invariants=()).trial.crash is not None


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
        "raises-without-freezing",
        "The optimizer also raises with nothing frozen and no gradient dropped.",
        lambda invariant, shown, subject: shown.breach.kind.raises and invariant.freezing,
        _raises_too,
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
        lambda reruns, invariant, shown: not reruns.repeats and reruns.kernels_vary,
    ),
    Explanation(
        "does-not-repeat",
        "The optimizer does not repeat itself with nothing frozen, which repeats-itself reports.",
        lambda invariant, shown, subject: (
            _compares(invariant, shown, subject) and invariant is not REPEATS
        ),
        lambda reruns, invariant, shown: not reruns.repeats,
    ),
    Explanation(
        "positional-by-design",
        "The subject states that updates depend on the order or the number of the parameters.",
        lambda invariant, shown, subject: (
            _compares(invariant, shown, subject) and bool(subject.positional)
        ),
        lambda reruns, invariant, shown: True,
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
            if reason == "does-not-repeat":
                left[REPEATS] = reruns.control.violated[REPEATS]
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
