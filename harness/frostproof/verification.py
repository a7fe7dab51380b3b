"""One subject on one device: draws cases, judges each trial once by every invariant, and keeps the tally."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import msgspec
from hypothesis.strategies import SearchStrategy, just

from frostproof.approach import Approach, Approaches, RequiresGradNudged, RequiresGradReversed
from frostproof.bits import finite, has_nan, nans_alike
from frostproof.blame import blamed
from frostproof.case import Case
from frostproof.device import is_accelerator
from frostproof.generation import cases, late
from frostproof.invariants import BY_ID, INVARIANTS, Invariant, Violation
from frostproof.invariants.progress import moves
from frostproof.observation import Crash, Trial
from frostproof.probe import Unusable, depends_on_order, moves_on_zero_grad, probe
from frostproof.program import Step
from frostproof.subject import AUTOGRAD, Subject
from frostproof.trial import Outcome, run_trial

SHRINKING = 15.0
"""Seconds after the first violation in which smaller cases are tried: of a slow optimizer, shrinking alone could take minutes."""

NUDGES = 16
"""How often the last digits of the gradients are changed, to see whether they decide: each time hit or miss, about one in three."""


@dataclass(slots=True)
class Tally:
    """How often an invariant was judged and violated, and the smallest case that violates it."""

    judged: int = 0
    violated: int = 0
    crashed: bool = False
    message: str = ""
    case: Case | None = None


class Verification:
    """The property that all invariants hold for `subject` on `device`, and what is known of it so far.

    `judge` is the body of a Hypothesis test. Counts include the trials that shrinking runs. `place` is the device with
    its index, where it has one; `sought` names an expected failure, which alone is then judged; `shard` counts the parts
    into which the examples are split, from 0, None where there is one alone. `before_each` is called before each trial, and
    `cut_short` says why there were fewer than there might have been.
    """

    def __init__(
        self,
        subject: Subject,
        device: str,
        *,
        place: str = "",
        sought: str | None = None,
        approaches: Approaches | None = None,
        strict: bool = False,
        shard: int | None = None,
    ) -> None:
        self.subject, self.device, self.place = subject, device, place or device
        self.shard = shard
        self.sought, self.approaches, self.strict = sought, approaches or Approaches(), strict
        self.cases: SearchStrategy[Case]
        self.trials = 0
        self.seconds = 0.0
        self.rounding = 0.0
        self.relaxed = 0
        self.depends_on_order = False
        self.rejected = 0
        self.rejection = ""
        self.partings: Counter[str] = Counter()
        self.moves_on_zero_grad: bool | None = None
        self.reason: str | None = None
        self.falsified: float | None = None  # when the first violation was seen
        self.failing: dict[bytes, Mapping[Invariant, str]] = {}  # what is violated in the cases that failed, by their JSON
        self.cut_short = ""
        self.before_each: Callable[[], None] = lambda: None
        applicable = (i for i in INVARIANTS if i.applies(optimizer=subject.factory is not None, values=device != "meta"))
        self.invariants: tuple[Invariant, ...] = tuple(i for i in applicable if sought in (None, i.id))
        self.tallies: dict[str, Tally] = {invariant.id: Tally() for invariant in self.invariants}

    def prepare(self) -> None:
        """Probe the subject, and find the `cases` to draw for it. Raises Unusable, with the reason kept for the report."""
        try:
            self.subject = probe(self.subject, self.place)
        except Unusable as unusable:
            self.reason = str(unusable)
            raise
        self.cases = cases(self.subject)
        known = self.subject.known_case(self.sought or "")
        if known is not None:
            self.cases = just(known) | self.cases  # Hypothesis begins with the first
        if self.subject.factory is not None and self.device != "meta":
            self.moves_on_zero_grad = moves_on_zero_grad(self.subject, self.place)
            self.depends_on_order = depends_on_order(self.subject, self.place)
        if self.subject.closure == "never":
            self.invariants = tuple(i for i in self.invariants if i.id != "closure-is-honoured")
            self.tallies.pop("closure-is-honoured", None)

    def seeking(self, identity: str) -> Verification:
        """A verification of the same subject that looks for one expected failure."""
        return Verification(self.subject, self.device, place=self.place, sought=identity, approaches=self.approaches, strict=self.strict)

    def leaves(self, identity: str) -> bool:
        """Whether a counterexample is left to the search for this expected failure, which has the smallest."""
        return self.sought is None and identity in self.subject.expected_failures and self.device != "meta"

    @property
    def id(self) -> str:
        """`target-variant@device`, as the ids of tests have it; behind it `#1`, `#2`, ... where there are several shards."""
        part = "" if self.shard is None else f"#{self.shard + 1}"
        return f"{self.subject.target}-{self.subject.variant}@{self.device}{part}"

    def __repr__(self) -> str:
        return f"<{self.id}>"

    def judge(self, case: Case) -> None:
        """Run `case` once and judge it by every invariant. Raises the violation that comes first in the registry.

        Once there has been one, and time enough to shrink it, nothing is run any more: what is known to fail fails.
        """
        self.before_each()
        key = msgspec.json.encode(case)
        if self.falsified is not None and time.monotonic() - self.falsified > SHRINKING:
            violated = self.failing.get(key, {})
        else:
            started = time.perf_counter()
            try:
                violated = self._judge(case)
            finally:
                self.seconds += time.perf_counter() - started
        for invariant, message in violated.items():
            if self.fails(invariant):
                self.falsified = self.falsified or time.monotonic()
                self.failing[key] = violated
                raise self._stated(invariant, message)

    def violation(self) -> Violation | None:
        """The violation that comes first of those seen so far and fails the property, at its smallest case."""
        seen = (invariant for invariant in self.invariants if self.tallies[invariant.id].violated and self.fails(invariant))
        first = next(seen, None)
        return None if first is None else self._stated(first, self.tallies[first.id].message)

    def _stated(self, invariant: Invariant, message: str) -> Violation:
        return invariant.broken(message, f"{self.subject.name} on {self.device}")

    def fails(self, invariant: Invariant) -> bool:
        """Whether a violation of it fails the property."""
        if self.sought is not None:
            return invariant.id == self.sought
        return invariant.id not in self.subject.expected_failures and (self.strict or invariant.severity != "cost")

    def severity(self, invariant: Invariant) -> str:
        return "crash" if self.tallies[invariant.id].crashed else invariant.severity

    def _judge(self, case: Case) -> Mapping[Invariant, str]:
        if self.sought == "repeats-itself" and "again" not in case.extras:
            case = case.replaced(extras=(*case.extras, "again"))
        outcome = self._run(case)
        doubtful = outcome.trial.crash or outcome.trial.stuck or any(invariant.compares for invariant in outcome.violated)
        if doubtful and (outcome.trial.crash or any(self.fails(invariant) for invariant in outcome.violated)):
            nan = _nan_in(outcome.trial)
            with nans_alike() if nan else nullcontext():
                outcome = self._against_control(case, self._run(case) if nan else outcome)
            if outcome.trial.crash and not outcome.violated:
                self.rejected += 1
                self.rejection = f"cannot {outcome.trial.crash.phase}, and freezing is not why: {outcome.trial.crash}"
                return {}
        self.trials += 1
        self.rounding = max(self.rounding, outcome.trial.rounding)
        self.partings.update(set(outcome.trial.parted.values()))
        if outcome.trial.moved_on_zero_grad is not None:
            self.moves_on_zero_grad = bool(self.moves_on_zero_grad) or outcome.trial.moved_on_zero_grad
        for invariant in outcome.judged:
            self.tallies[invariant.id].judged += 1
        for invariant, message in outcome.violated.items():
            tally = self.tallies[invariant.id]
            tally.violated += 1
            tally.crashed = tally.crashed or outcome.trial.crash is not None
            if tally.case is None or case.size <= tally.case.size:
                tally.case, tally.message = case, message
        return outcome.violated

    def _against_control(self, case: Case, outcome: Outcome) -> Outcome:
        """The outcome less what also happens with nothing frozen and every gradient there: that is no freezing bug."""
        control = self._control(case)
        repeats = BY_ID["repeats-itself"]
        if repeats in control.violated:
            outcome = _without_comparisons(outcome)
            if self._kernels_vary(case):
                self.relaxed += 1
            else:
                self._add(outcome, repeats, control.violated[repeats])
        elif any(invariant.compares for invariant in outcome.violated):
            outcome = self._less_what_is_no_bug(case, outcome)
        moments = control.trial.moments
        trains = any(moves(control.trial, moment, "a", i) for i, number in outcome.trial.stuck for moment in moments[number : number + 1])
        stuck_too = outcome.trial.stuck and not trains
        no_bug = {"checkpoint-resumes"} & {invariant.id for invariant in control.violated}
        no_bug |= {"thaw-resumes", "group-added-trains"} if stuck_too else set()
        outcome = _without(outcome, lambda invariant: invariant.id in no_bug)
        crash = outcome.trial.crash
        if crash is None or self._overflowed(crash, case):
            return outcome
        text = f"{crash.phase} raised {crash} {_where(crash, case)}, approach {outcome.trial.names[crash.role]}"
        if control.trial.crash is None:
            broken = blamed(outcome.trial, lambda other: self._run(other).trial.crash is not None)
            self._add(outcome, BY_ID[broken], f"{text}; with nothing frozen and every gradient there it does not raise")
        elif self._closes_badly(case):
            self._add(outcome, BY_ID["closure-is-honoured"], f"{text}; without a closure it does not raise")
        return outcome

    def _closes_badly(self, case: Case) -> bool:
        """Whether, with nothing frozen, a case raises with its closures and not without them.

        Not on meta: what an optimizer does with a loss that has no value is no fault of it.
        """
        closes = any(event.closure for event in case.program if isinstance(event, Step))
        return self.device != "meta" and closes and self._control(case, closure=False).trial.crash is None

    def _less_what_is_no_bug(self, case: Case, outcome: Outcome) -> Outcome:
        """The outcome less comparisons of two runs that this optimizer, as it is made, does not repeat to the bit.

        One that is known not to repeat itself reads memory or random numbers that are not its own: it shows differences by chance.
        """
        # What autograd's kernels do by chance hangs on the case, and the control has shown that this one repeats itself.
        if self.subject.positional or (self.subject.factory is not None and "repeats-itself" in self.subject.expected_failures):
            return _without_comparisons(outcome)
        if not outcome.trial.crash and self._depends_on_grouping(case):
            return _without_comparisons(outcome)
        if self.subject.rounding is not None:
            return _without_comparisons(outcome) if self._depends_on_order(case) or self._depends_on_rounding(case) else outcome
        rounded = self._run(case, replace(self.subject, rounding="seen"))
        differs = any(invariant.compares for invariant in rounded.violated)
        # Rounding alone, or rounding that this optimizer makes more of with nothing frozen too.
        if not differs or (rounded.trial.rounding and self._depends_on_order(case.control())):
            self.rounding = max(self.rounding, rounded.trial.rounding)
            return _without_comparisons(outcome)
        return outcome

    def _overflowed(self, crash: Crash, case: Case) -> bool:
        """Whether the optimizer was handed a gradient that is infinite or NaN: whatever it does then is not freezing's doing."""
        handed = () if crash.handed is None or self.device == "meta" else crash.handed
        return not all(finite(gradient, case.dtype) for gradient in handed if gradient is not None)

    def _run(self, case: Case, subject: Subject | None = None) -> Outcome:
        return run_trial(case, subject or self.subject, self.place, self.invariants, self.approaches)

    def _control(self, case: Case, closure: bool | None = None) -> Outcome:
        return run_trial(case.control(closure), self.subject, self.place, self.invariants, Approaches())

    def _depends_on_grouping(self, case: Case) -> bool:
        """Whether, with nothing frozen, this optimizer trains otherwise where what is thawed later has groups of its own."""
        grouped = case.replaced(groups=late(case.groups, case.mask, case.program))
        if grouped.groups == case.groups:
            return False
        one, other = self._control(case).trial, self._control(grouped).trial
        return [moment.seen["a"].weights for moment in one.moments] != [moment.seen["a"].weights for moment in other.moments]

    def _kernels_vary(self, case: Case) -> bool:
        """Whether forward and backward alone, without any optimizer, differ from run to run."""
        if self.subject.factory is None:
            return is_accelerator(self.device)
        repeats = BY_ID["repeats-itself"]
        return repeats in run_trial(case.control(), AUTOGRAD, self.place, (repeats,), Approaches()).violated

    def _depends_on_order(self, case: Case) -> bool:
        """Whether another order of the parameters makes more than a rounding difference."""
        return self._trains_apart(case, RequiresGradReversed())

    def _depends_on_rounding(self, case: Case) -> bool:
        """Whether the last digit of the gradients makes more than a rounding difference, as where it decides for a line search."""
        return any(self._trains_apart(case, RequiresGradNudged(seed=seed)) for seed in range(NUDGES))

    def _trains_apart(self, case: Case, other: Approach) -> bool:
        """Whether A and this variant of it differ by more than rounding."""
        matches = BY_ID["trainable-updates-match"]
        subject = replace(self.subject, rounding=self.subject.rounding or "seen")
        return matches in run_trial(case.replaced(extras=()), subject, self.place, (matches,), Approaches(b=other)).violated

    def _add(self, outcome: Outcome, invariant: Invariant, message: str) -> None:
        if invariant in self.invariants:
            outcome.violated.setdefault(invariant, message)
            if invariant not in outcome.judged:
                outcome.judged.append(invariant)


def _nan_in(trial: Trial) -> bool:
    """Whether there is a NaN in what was last seen of any twin."""
    seen = [each for moment in trial.moments[-1:] for each in moment.seen.values()]
    tensors = [data for each in seen for data in (*each.weights, *(each.gradients or ()), *each.losses, *each.buffers) if data]
    return any(has_nan(data, trial.case.dtype) for data in tensors)


def _without_comparisons(outcome: Outcome) -> Outcome:
    """The outcome less every judgement that compares two runs."""
    return _without(outcome, lambda invariant: invariant.compares)


def _without(outcome: Outcome, left_out: Callable[[Invariant], bool]) -> Outcome:
    judged = [invariant for invariant in outcome.judged if not left_out(invariant)]
    violated = {invariant: message for invariant, message in outcome.violated.items() if not left_out(invariant)}
    return Outcome(outcome.trial, judged, violated)


def _where(crash: Crash, case: Case) -> str:
    return f"at event {crash.index} ({case.program[crash.index]!r})" if crash.index >= 0 else "in the constructor"
