"""Other runs of a case that shows a breach, which tell whether freezing is its cause.

The most important one is the control: the same network, groups, hyperparameters, learning rates and
events, with nothing frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cached_property

import torch

from frostproof.approaches.approach import (
    Approach,
    Approaches,
    OnlyA,
    RequiresGradNudged,
    RequiresGradReversed,
)
from frostproof.generation.cases import with_late_groups
from frostproof.invariants.invariant import Invariant, ShownBreach
from frostproof.invariants.registry import BY_ID, INVARIANTS
from frostproof.process.device import is_accelerator
from frostproof.spec.case import Case, Group
from frostproof.spec.program import AddFrozen, Freeze, SaveLoad, Schedule, Step, Thaw
from frostproof.spec.setting import EAGER
from frostproof.spec.subject import AUTOGRAD, Subject
from frostproof.trial.lockstep import Outcome, run_trial

NUDGES = 16
"""Number of random changes of the gradients' last digits, each of which shows with a chance of
about 1/3 that the optimizer amplifies rounding."""

REPEATS, MATCHES = BY_ID["repeats-itself"], BY_ID["trainable-updates-match"]
AGREES = BY_ID["compiled-step-agrees"]
SINGLE = torch.finfo(torch.float32).eps


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
        subject = subject or self.subject
        return run_trial(
            case,
            subject,
            self.device,
            [invariant for invariant in invariants if invariant.judges(subject)],
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
    def unlike_runs(self) -> ShownBreach | None:
        """What shows that two runs with one seed differ: of A in the case, or of the control."""
        runs: tuple[Callable[[], Outcome], ...] = (
            lambda: self.outcome,
            lambda: self.control,
            lambda: self.run(self.case.replaced(extras=("again",)), invariants=(REPEATS,)),
        )
        for run in runs:
            shown = run().violated.get(REPEATS)
            if shown is not None and "again" in shown.breach.roles:
                return shown
        return None

    @cached_property
    def kernels_vary(self) -> bool:
        """Whether forward and backward differ from run to run without an optimizer."""
        if self.subject.factory is None:
            return is_accelerator(self.device)
        if self.unlike_runs is not None and _differ_before_step(self.unlike_runs):
            return True
        plain = run_trial(self.case.control(), AUTOGRAD, self.device, (REPEATS,), Approaches())
        return REPEATS in plain.violated

    @cached_property
    def without_optimizer(self) -> Outcome:
        """The model in this case, as its setting wraps it."""
        alone = replace(AUTOGRAD, setting=self.subject.setting)
        fit = [invariant for invariant in INVARIANTS if invariant.judges(alone)]
        muted = [invariant.id for invariant in fit]
        return run_trial(self.case, alone, self.device, fit, Approaches(), muted=muted)

    @cached_property
    def raises_by_itself(self) -> bool:
        """Whether the training that raised does so with no other one in the process, as a script.

        One that has gone on from its checkpoint is not tried.
        """
        crash = self.outcome.trial.crash
        assert crash is not None
        before = self.case.program[: crash.index + 1]
        if crash.role.startswith("resumed") and any(isinstance(e, SaveLoad) for e in before):
            return True
        approaches = OnlyA(a=self.approaches.roles_for(self.case)[crash.role])
        alone = run_trial(self.case, self.subject, self.device, (), approaches).trial.crash
        return alone is not None and alone.index <= crash.index

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

    @cached_property
    def amplifies_single_precision(self) -> bool:
        """Whether a change of the gradients by dozens of units of float32 trains far more unlike.

        Nothing is compiled.
        """
        eager = self.subject.in_setting(EAGER)
        nudged = (RequiresGradNudged(seed=seed, unit=16 * SINGLE) for seed in range(NUDGES))
        runs = (
            run_trial(self.case, eager, self.device, (AGREES,), Approaches(eager=each))
            for each in nudged
        )
        return any(AGREES in run.violated for run in runs)

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
        unadded = so_far.replaced(
            program=tuple(each for each in so_far.program if not isinstance(each, AddFrozen))
        )
        if unadded != so_far and not self._crashes(unadded):
            return "group-added-trains"
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


def _differ_before_step(shown: ShownBreach) -> bool:
    """Whether two runs came to other losses or gradients from the same bits, before a step.

    The optimizer has no part in that, unless it calls the closure, or backward, itself, or has
    hooks on its parameters.
    """
    record, subject = shown.trial.records[shown.breach.event], shown.trial.subject
    takes_part = subject.runs_backward or subject.hooks
    if not isinstance(record.event, Step) or record.event.closure or takes_part:
        return False
    one, other = (record.observations[role] for role in shown.breach.roles)
    alike = (
        one.before.weights == other.before.weights
        and one.before.buffers == other.before.buffers
        and one.before.rng_state == other.before.rng_state
        and one.grads_after_zero_grad == other.grads_after_zero_grad
    )
    return alike and (
        one.losses != other.losses or one.grads_after_backward != other.grads_after_backward
    )
