"""What is not freezing's doing: the reasons for which a breach is explained away, each of them tried, and counted.

A breach is tried against a control: the same network, groups, hyperparameters, learning rates and events with nothing frozen,
looked at in the same way. Reruns are made when an explanation first asks for them, and kept.
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
from frostproof.generation.cases import late
from frostproof.invariants.assertions import RAISES
from frostproof.invariants.invariant import Breach, Invariant, ShownBreach
from frostproof.invariants.movement import moves
from frostproof.invariants.registry import BY_ID, INVARIANTS
from frostproof.process.device import is_accelerator
from frostproof.spec.case import Case, Group
from frostproof.spec.program import Freeze, Step, Thaw
from frostproof.spec.subject import AUTOGRAD, Subject
from frostproof.training.bits import finite
from frostproof.training.observation import Trial
from frostproof.trial.lockstep import Outcome, run_trial

NUDGES = 16
"""Number of random changes of the gradients' last digits. Each has about one chance in three to show that they decide."""

REPEATS, MATCHES = BY_ID["repeats-itself"], BY_ID["trainable-updates-match"]


class Reruns:
    """One case that shows a breach, and what other runs of it show."""

    def __init__(
        self,
        outcome: Outcome,
        subject: Subject,
        device: str,
        approaches: Approaches,
        muted: Collection[str] = (),
    ) -> None:
        self.muted = muted
        self.outcome, self.case, self.subject, self.device, self.approaches = (
            outcome,
            outcome.trial.case,
            subject,
            device,
            approaches,
        )

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
        fit = [
            i
            for i in INVARIANTS
            if i.applies(optimizer=self.subject.factory is not None, values=self.device != "meta")
        ]
        muted = [invariant.id for invariant in fit]  # it goes on to its end, whatever it breaks
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
        """Nothing frozen, no gradient dropped, A run twice."""
        return self._control_of(self.case)

    @cached_property
    def control_without_closure(self) -> Outcome:
        return self._control_of(self.case, closure=False)

    @cached_property
    def repeats(self) -> bool:
        """Whether the control does the same when it is run again."""
        return REPEATS not in self.control.violated

    @cached_property
    def kernels_vary(self) -> bool:
        """Whether forward and backward alone, without any optimizer, differ from run to run."""
        if self.subject.factory is None:
            return is_accelerator(self.device)
        return (
            REPEATS
            in run_trial(
                self.case.control(), AUTOGRAD, self.device, (REPEATS,), Approaches()
            ).violated
        )

    @cached_property
    def depends_on_grouping(self) -> bool:
        """Whether, with nothing frozen, the optimizer trains otherwise where what is thawed later has groups of its own."""
        grouped = self.case.replaced(
            groups=late(self.case.groups, self.case.mask, self.case.program)
        )
        if grouped.groups == self.case.groups:
            return False
        one, other = self.control.trial, self._control_of(grouped).trial
        return [record.observations["a"].weights for record in one.records] != [
            record.observations["a"].weights for record in other.records
        ]

    @cached_property
    def refuses_unlike_rates(self) -> bool:
        """Whether, with nothing frozen, the optimizer raises where its groups have learning rates that differ."""
        crash = self.outcome.trial.crash
        if (
            crash is None
            or len(set(crash.learning_rates)) < 2
            or self.control.trial.crash is not None
        ):
            return False
        halves = [self.case.groups[0].parameters[::2], self.case.groups[0].parameters[1::2]]
        names = (
            [group.parameters for group in self.case.groups]
            if len(self.case.groups) > 1
            else list(filter(None, halves))
        )
        options = dict(self.case.groups[0].options)
        rates = [
            (*((k, v) for k, v in options.items() if k != "lr"), ("lr", 0.1 / (1 + i)))
            for i in range(len(names))
        ]
        groups = tuple(Group(tuple(each), rate) for each, rate in zip(names, rates, strict=True))
        return self._control_of(self.case.replaced(groups=groups)).trial.crash is not None

    @cached_property
    def rounded(self) -> Outcome:
        """The same case where differences of rounding size are allowed."""
        return self.run(self.case, replace(self.subject, rounding=self.subject.rounding or "seen"))

    @cached_property
    def depends_on_order(self) -> bool:
        """Whether another order of the parameters makes more than a rounding difference."""
        return self._trains_apart(self.case, RequiresGradReversed())

    @cached_property
    def depends_on_order_without_freezing(self) -> bool:
        return self._trains_apart(self.case.control(), RequiresGradReversed())

    @cached_property
    def depends_on_rounding(self) -> bool:
        """Whether the last digit of the gradients makes more than a rounding difference, as where it decides for a line search."""
        return any(
            self._trains_apart(self.case, RequiresGradNudged(seed=seed)) for seed in range(NUDGES)
        )

    def _trains_apart(self, case: Case, other: Approach) -> bool:
        """Whether A and this variant of it differ by more than rounding."""
        subject = replace(self.subject, rounding=self.subject.rounding or "seen")
        return (
            MATCHES
            in run_trial(
                case.replaced(extras=()), subject, self.device, (MATCHES,), Approaches(b=other)
            ).violated
        )

    @cached_property
    def blamed(self) -> str:
        """The id of the invariant that a crash breaks: what had happened before it, and whether it crashes without that."""
        crash = self.outcome.trial.crash
        assert crash is not None
        if crash.phase == "zero_grad":
            return "zero-grad-clears"
        if crash.role.startswith("resumed"):
            return "checkpoint-resumes"
        if crash.index < 0:
            return "gradless-step-is-noop"
        so_far = self.case.replaced(program=self.case.program[: crash.index + 1])
        owns_all = crash.role in ("a", "again")
        undropped = so_far.without_drops()
        if undropped != so_far and not self._crashes(undropped):
            return "gradless-step-is-noop"
        if so_far.thawed and not self._crashes(so_far.without(Thaw)):
            # A owned from the start what was thawed; the others add what was frozen from the start, which needs no freeze midway.
            added = not owns_all and self._crashes(so_far.without(Freeze))
            return "group-added-trains" if added else "thaw-resumes"
        if so_far.frozen_midway and not self._crashes(so_far.without(Freeze)):
            return "gradless-step-is-noop" if owns_all else "freeze-midway-holds"
        return "gradless-step-is-noop"

    def _crashes(self, case: Case) -> bool:
        return self.run(case, invariants=()).trial.crash is not None


class Explanation(NamedTuple):
    """Why a breach is no fault of freezing. `concerns`: the breaches that it may explain; `holds`: whether it does, which is tried."""

    id: str
    sentence: str
    concerns: Callable[[Invariant, ShownBreach, Subject], bool]
    holds: Callable[[Reruns, Invariant, ShownBreach], bool]


def _crash(invariant: Invariant, shown: ShownBreach, subject: Subject) -> bool:
    return shown.breach.kind.raises


def _compares(invariant: Invariant, shown: ShownBreach, subject: Subject) -> bool:
    return invariant.compares and not shown.breach.kind.raises and not shown.breach.kind.stuck


def _overflowed(reruns: Reruns, invariant: Invariant, shown: ShownBreach) -> bool:
    crash = shown.trial.crash
    handed = (
        ()
        if crash is None or crash.grads_at_step is None or reruns.device == "meta"
        else crash.grads_at_step
    )
    return not all(
        finite(gradient, reruns.case.dtype) for gradient in handed if gradient is not None
    )


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
        "The optimizer raised when it was handed an infinite gradient or a NaN.",
        _crash,
        _overflowed,
    ),
    Explanation(
        "raises-without-freezing",
        "The optimizer raises with nothing frozen and every gradient there as well.",
        lambda invariant, shown, subject: shown.breach.kind.raises and invariant.freezing,
        lambda reruns, invariant, shown: reruns.control.trial.crash is not None,
    ),
    Explanation(
        "refuses-unlike-rates",
        "The optimizer raises with nothing frozen as well where the learning rates of its groups differ.",
        _crash,
        lambda reruns, invariant, shown: reruns.refuses_unlike_rates,
    ),
    Explanation(
        "nondeterministic-kernels",
        "Forward and backward alone differ from run to run on this case, without any optimizer.",
        lambda invariant, shown, subject: _compares(invariant, shown, subject),
        lambda reruns, invariant, shown: not reruns.repeats and reruns.kernels_vary,
    ),
    Explanation(
        "does-not-repeat",
        "The optimizer does not repeat itself with nothing frozen; that is reported under repeats-itself.",
        lambda invariant, shown, subject: (
            _compares(invariant, shown, subject) and invariant is not REPEATS
        ),
        lambda reruns, invariant, shown: not reruns.repeats,
    ),
    Explanation(
        "positional-by-design",
        "The subject states that an update depends on the order or the number of the parameters.",
        lambda invariant, shown, subject: (
            _compares(invariant, shown, subject) and bool(subject.positional)
        ),
        lambda reruns, invariant, shown: True,
    ),
    Explanation(
        "known-not-to-repeat",
        "The optimizer is on record for reading memory or random numbers that are not its own.",
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
        "With nothing frozen as well, the optimizer trains otherwise where the same parameters are in other groups.",
        _compares,
        lambda reruns, invariant, shown: reruns.depends_on_grouping,
    ),
    Explanation("rounding-only", "The difference is of rounding size.", _compares, _rounds),
    Explanation(
        "amplifies-rounding",
        "The optimizer makes more of a rounding difference with nothing frozen as well.",
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
        "The same invariant is broken with nothing frozen.",
        lambda invariant, shown, subject: invariant.freezing and not shown.breach.kind.raises,
        lambda reruns, invariant, shown: (
            invariant in reruns.control.violated and not reruns.control.trial.case.mask
        ),
    ),
)
"""In the order in which they are tried; the first that holds explains a breach."""


def attributed(
    reruns: Reruns, violated: dict[Invariant, ShownBreach]
) -> tuple[dict[Invariant, ShownBreach], list[tuple[Invariant, str]]]:
    """What is left of these breaches, a crash among them as what it breaks; and what was explained away, with the explanation's id."""
    found, explained = dict(violated), []
    crash = reruns.outcome.trial.crash
    if crash is not None:
        invariant, shown = _crash_breach(reruns)
        found[invariant] = shown
    left: dict[Invariant, ShownBreach] = {}
    for invariant, shown in found.items():
        concerned = (
            each for each in EXPLANATIONS if each.concerns(invariant, shown, reruns.subject)
        )
        concerned = (
            each for each in EXPLANATIONS if each.concerns(invariant, shown, reruns.subject)
        )
        reason = next((each.id for each in concerned if each.holds(reruns, invariant, shown)), None)
        if reason is None:
            left[invariant] = shown
        else:
            explained.append((invariant, reason))
            if reason == "does-not-repeat":
                left[REPEATS] = reruns.control.violated[REPEATS]
    return left, explained


def _crash_breach(reruns: Reruns) -> tuple[Invariant, ShownBreach]:
    """The invariant that a crash breaks. Where it is not freezing's doing, that is not worth finding out by more runs."""
    trial = reruns.outcome.trial
    crash = trial.crash
    assert crash is not None
    control = reruns.control.trial.crash
    closes = any(event.closure for event in reruns.case.program if isinstance(event, Step))
    # Not on meta: what an optimizer does with a loss that has no value is no fault of it.
    if (
        control is not None
        and closes
        and reruns.device != "meta"
        and reruns.control_without_closure.trial.crash is None
    ):
        # Shown in the control, where nothing is frozen that might have to do with it.
        breach = Breach(
            RAISES, (control.role,), control.index, expected="without a closure it does not raise"
        )
        honoured = BY_ID["closure-is-honoured"]
        return honoured, ShownBreach(reruns.control.trial, breach, honoured, reruns.device)
    invariant = BY_ID["gradless-step-is-noop" if control is not None else reruns.blamed]
    breach = Breach(
        RAISES,
        (crash.role,),
        crash.index,
        expected="with nothing frozen and every gradient there it does not raise",
    )
    return invariant, ShownBreach(trial, breach, invariant, reruns.device)
