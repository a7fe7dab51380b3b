"""One subject on one device: draws cases, judges each trial once by every invariant, and keeps the tally."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import msgspec
from hypothesis.strategies import SearchStrategy, just

from frostproof.approaches.approach import Approaches
from frostproof.errors import UnusableError, ViolationError
from frostproof.generation.cases import cases
from frostproof.invariants.invariant import Invariant, ShownBreach
from frostproof.invariants.registry import INVARIANTS
from frostproof.optimizers.probe import depends_on_order, moves_on_zero_grad, probe
from frostproof.spec.case import Case
from frostproof.spec.subject import Subject
from frostproof.training.bits import has_nan, nans_alike
from frostproof.training.observation import Trial
from frostproof.trial.lockstep import Outcome, run_trial
from frostproof.verification.attribution import Reruns, attributed


@dataclass(slots=True)
class Tally:
    """How often an invariant was judged and violated, how often and why a breach was explained away, and the smallest case that
    violates it, with what it shows."""

    judged: int = 0
    violated: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    crashed: bool = False
    message: str = ""
    case: Case | None = None
    shown: ShownBreach | None = None


class Verification:
    """The property that all invariants hold for `subject` on `device`, and what is known of it so far.

    Counts include the trials that shrinking runs. `place` is the device with its index, where it has one; `sought` names an
    expected failure, which alone is then judged; `shard` counts the parts into which the examples are split, from 0, None where
    there is one alone. `before_each` is called before each trial, and `cut_short` says why there were fewer than there might have
    been. `noting` is told of each case, as JSON, before it is run.
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
        self.depends_on_order = False
        self.rejected = 0
        self.rejection = ""
        self.partings: Counter[str] = Counter()
        self.moves_on_zero_grad: bool | None = None
        self.reason: str | None = None
        self.failing: dict[
            bytes, Mapping[Invariant, str]
        ] = {}  # what is violated in the cases that failed, by their JSON
        self.cut_short = ""
        self.before_each: Callable[[], None] = lambda: None
        self.noting: Callable[[bytes], None] = lambda case: None
        applicable = (
            i
            for i in INVARIANTS
            if i.applies(optimizer=subject.factory is not None, values=device != "meta")
        )
        self.invariants: tuple[Invariant, ...] = tuple(
            i for i in applicable if sought in (None, i.id)
        )
        self.tallies: dict[str, Tally] = {invariant.id: Tally() for invariant in self.invariants}

    def prepare(self) -> None:
        """Probe the subject, and find the `cases` to draw for it. Raises UnusableError, with the reason kept for the report."""
        try:
            self.subject = probe(self.subject, self.place)
        except UnusableError as unusable:
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
        return Verification(
            self.subject,
            self.device,
            place=self.place,
            sought=identity,
            approaches=self.approaches,
            strict=self.strict,
        )

    def leaves(self, identity: str) -> bool:
        """Whether a counterexample is left to the search for this expected failure, which has the smallest."""
        return (
            self.sought is None
            and identity in self.subject.expected_failures
            and self.device != "meta"
        )

    @property
    def id(self) -> str:
        """`target-variant@device`, as the ids of tests have it; behind it `#1`, `#2`, ... where there are several shards."""
        part = "" if self.shard is None else f"#{self.shard + 1}"
        return f"{self.subject.target}-{self.subject.variant}@{self.device}{part}"

    def __repr__(self) -> str:
        return f"<{self.id}>"

    def judge(self, case: Case) -> None:
        """Run `case` once and judge it by every invariant. Raises the violation that comes first in the registry."""
        for invariant, message in self.look(case, self.known_failures).items():
            if self.fails(invariant):
                raise self.stated(invariant, message)

    @property
    def known_failures(self) -> tuple[str, ...]:
        """What is expected to fail, and so does not end a trial."""
        return () if self.sought is not None else tuple(self.subject.expected_failures)

    def look(self, case: Case, muted: Collection[str] = ()) -> Mapping[Invariant, str]:
        """Run `case` once and judge it by every invariant: what is violated, with a message. What is `muted` ends no trial."""
        self.before_each()
        key = msgspec.json.encode(case)
        self.noting(key)
        started = time.perf_counter()
        try:
            violated = self._look(case, muted)
        finally:
            self.seconds += time.perf_counter() - started
        if violated:
            self.failing[key] = violated
        return violated

    def violations(self) -> list[ViolationError]:
        """The violations that fail the property, each at its smallest case, in the order of the registry."""
        seen = [
            i
            for i in self.invariants
            if self.tallies[i.id].violated and self.tallies[i.id].case is not None and self.fails(i)
        ]
        return [self.stated(invariant, self.tallies[invariant.id].message) for invariant in seen]

    def stated(self, invariant: Invariant, message: str) -> ViolationError:
        """What to raise for a violation with this message."""
        return invariant.broken(message, f"{self.subject.name} on {self.device}")

    def fails(self, invariant: Invariant) -> bool:
        """Whether a violation of it fails the property."""
        if self.sought is not None:
            return invariant.id == self.sought
        return invariant.id not in self.subject.expected_failures and (
            self.strict or invariant.severity != "cost"
        )

    def severity(self, invariant: Invariant) -> str:
        return "crash" if self.tallies[invariant.id].crashed else invariant.severity

    def _look(self, case: Case, muted: Collection[str]) -> Mapping[Invariant, str]:
        if self.sought == "repeats-itself" and "again" not in case.extras:
            case = case.replaced(extras=(*case.extras, "again"))
        outcome = self._run(case, muted)
        fresh = {
            invariant: shown
            for invariant, shown in outcome.violated.items()
            if invariant.id not in muted
        }
        known = [invariant for invariant in outcome.violated if invariant.id in muted]
        if fresh or outcome.trial.crash is not None:
            nan = _nan_in(outcome.trial)
            with nans_alike() if nan else nullcontext():
                if nan:
                    outcome = self._run(case, muted)
                    fresh = {
                        invariant: shown
                        for invariant, shown in outcome.violated.items()
                        if invariant.id not in muted
                    }
                reruns = Reruns(outcome, self.subject, self.place, self.approaches, muted)
                fresh, explained = attributed(reruns, fresh)
            self._count_explained(outcome, explained, fresh)
            if outcome.trial.crash is not None and not fresh and not known:
                self.rejected += 1
                self.rejection = f"cannot {outcome.trial.crash.phase}, and freezing is not why: {outcome.trial.crash}"
                return {}
        return self._counted(case, outcome, fresh, known)

    def _count_explained(
        self,
        outcome: Outcome,
        explained: list[tuple[Invariant, str]],
        left: Mapping[Invariant, ShownBreach],
    ) -> None:
        for invariant, reason in explained:
            if invariant.id in self.tallies:
                self.tallies[invariant.id].explained[reason] += 1
            if invariant in outcome.judged and invariant not in left:
                outcome.judged.remove(invariant)

    def _counted(
        self,
        case: Case,
        outcome: Outcome,
        fresh: Mapping[Invariant, ShownBreach],
        known: list[Invariant],
    ) -> Mapping[Invariant, str]:
        self.trials += 1
        self.rounding = max(self.rounding, outcome.trial.rounding)
        self.partings.update(set(outcome.trial.diverged.values()))
        if outcome.trial.moved_on_zero_grad is not None:
            self.moves_on_zero_grad = (
                bool(self.moves_on_zero_grad) or outcome.trial.moved_on_zero_grad
            )
        for invariant in {*outcome.judged, *fresh} & {*self.invariants}:
            self.tallies[invariant.id].judged += 1
        for invariant in (
            known
        ):  # not tried again whether it can be explained: it need not be the smallest case, either
            self.tallies[invariant.id].violated += 1
        violated: dict[Invariant, str] = {}
        for invariant in (each for each in self.invariants if each in fresh):
            shown, tally = fresh[invariant], self.tallies[invariant.id]
            violated[invariant] = shown.message
            tally.violated += 1
            tally.crashed = tally.crashed or shown.breach.kind.raises
            if tally.case is None or case.size <= tally.case.size:
                tally.case, tally.message, tally.shown = case, violated[invariant], shown
        return violated

    def _run(self, case: Case, muted: Collection[str] = ()) -> Outcome:
        return run_trial(
            case, self.subject, self.place, self.invariants, self.approaches, muted=muted
        )


def _nan_in(trial: Trial) -> bool:
    """Whether there is a NaN in what was last seen of any twin."""
    seen = [each for record in trial.records[-1:] for each in record.observations.values()]
    tensors = [
        data
        for each in seen
        for data in (*each.weights, *(each.grads_after_backward or ()), *each.losses, *each.buffers)
        if data
    ]
    return any(has_nan(data, trial.case.dtype) for data in tensors)
