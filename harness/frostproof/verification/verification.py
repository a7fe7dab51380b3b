"""One subject on one device: every trial is judged once by every invariant, and counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace

import msgspec
from hypothesis.strategies import SearchStrategy, just

from frostproof.approaches.approach import Approaches
from frostproof.errors import UnusableError, ViolationError
from frostproof.generation.cases import cases, is_trained
from frostproof.invariants.invariant import Invariant, ShownBreach
from frostproof.invariants.registry import INVARIANTS
from frostproof.optimizers.measurements import depends_on_order, moves_on_zero_grad
from frostproof.optimizers.probe import probe
from frostproof.process.fence import eager_only, settings_restored
from frostproof.spec.case import Case, options_text
from frostproof.spec.ids import directness
from frostproof.spec.setting import EAGER
from frostproof.spec.subject import Subject
from frostproof.spec.user_model import ModelUnderTest
from frostproof.training.bits import has_nan, nans_alike
from frostproof.training.observation import Trial
from frostproof.trial.lockstep import Outcome, run_trial
from frostproof.verification import profiles
from frostproof.verification.attribution import attribute
from frostproof.verification.order import is_gone_in_order
from frostproof.verification.reruns import Reruns
from frostproof.verification.tally import Tally


@dataclass(eq=False, repr=False)
class Verification:
    """The property that all invariants hold for a subject on a device, and what its trials showed.

    Drawing a case costs about as much as its trial. Therefore no invariant has a property of its
    own: a case is drawn and run once, all invariants judge that trial, and all its violations are
    counted, also in the trials that shrinking runs. A breach counts as a violation only if no
    explanation holds (see `attribution`). A known failure is muted: it is counted, and its trial
    goes on, so that it hides no other bug.
    """

    subject: Subject
    device: str
    _: KW_ONLY

    indexed_device: str = ""
    """The device with its index, such as `cuda:1`; the device if it is empty."""

    only_invariant: str | None = None
    """The expected failure that this verification searches for; no other one is judged."""

    approaches: Approaches = field(default_factory=Approaches)

    model: ModelUnderTest | None = None
    """The user's model, which then takes the place of drawn networks."""

    strict: bool = False
    """Whether violations that only cost memory or time fail too."""

    shard: int | None = None
    """The number of this part of the examples, from 0; None if they are not split."""

    cases: SearchStrategy[Case] = field(init=False)
    """What to draw; `prepare` sets it."""

    invariants: tuple[Invariant, ...] = field(init=False)
    tallies: dict[str, Tally] = field(init=False)

    trials: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    """The time that the trials took."""

    phases: dict[str, float] = field(default_factory=dict, init=False)
    """Phase -> the seconds by the clock that it took; `phase` counts them."""

    largest_rounding: float = field(default=0.0, init=False)
    """The largest difference that was rounding, in units in the last place."""

    depends_on_order: bool = field(default=False, init=False)
    """Whether the order, or the grouping, of parameters matters with nothing frozen."""

    moves_on_zero_grad: bool | None = field(default=None, init=False)
    """Whether a frozen parameter with a gradient of zeros moves; None if that was not seen."""

    rejected_cases: int = field(default=0, init=False)
    """The number of cases that crash for another reason than freezing."""

    rejection_reason: str = field(default="", init=False)
    """Why the last of them was rejected."""

    divergence_counts: Counter[str] = field(default_factory=Counter, init=False)
    """Cause of a divergence of two copies -> the number of trials that had it."""

    unusable_reason: str | None = field(default=None, init=False)
    """Why the subject cannot be judged."""

    cut_short_reason: str = field(default="", init=False)
    """Why fewer examples were tried than asked for."""

    raised_unfrozen: str = field(default="", init=False)
    """The first exception that the optimizer raises with nothing frozen, too."""

    raised_without: str = field(default="", init=False)
    """The first exception that the model raises without an optimizer, too."""

    set_aside: list[str] = field(default_factory=list, init=False)
    """Ids of the invariants whose comparisons were set aside, because two runs differ."""

    current_phase: str = field(default="", init=False)
    """The phase that began last."""

    shrunk: set[str] = field(default_factory=set, init=False)
    """Ids of the invariants whose smallest cases nothing can be left out of."""

    before_each_trial: Callable[[], None] = field(default_factory=lambda: lambda: None, init=False)

    note_case: Callable[[bytes], None] = field(
        default_factory=lambda: lambda case: None, init=False
    )
    """Called with the JSON of each case before it is run."""

    def __post_init__(self) -> None:
        self.indexed_device = self.indexed_device or self.device
        self.invariants = tuple(
            invariant
            for invariant in INVARIANTS
            if invariant.judges(self.subject) and self.only_invariant in (None, invariant.id)
        )
        self.tallies = {invariant.id: Tally() for invariant in self.invariants}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time until the end as this phase."""
        started, self.current_phase = time.perf_counter(), name
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.phases[name] = self.phases.get(name, 0.0) + elapsed

    def prepare(self) -> None:
        """Probe the subject, and set `cases`. Raises UnusableError, and keeps its reason."""
        with settings_restored(self.indexed_device), self.phase("probe"):
            try:
                self._probe()
            except UnusableError as unusable:
                self.unusable_reason = str(unusable)
                raise
        self.cases = cases(self.subject, self.model, has_way=self.approaches.way is not None)
        known = self.subject.known_case(self.only_invariant or "")
        if known is not None:
            self.cases = just(known) | self.cases  # Hypothesis begins with the first
        if self.subject.closure == "never":
            self._leave_out("closure-is-honoured")
        if self.subject.coupled is not None:
            self._leave_out("trains-as-alone")

    def _probe(self) -> None:
        self.subject = probe(self.subject, self.indexed_device)
        if self.model is not None:
            self._check_model(self.model)
        if self.subject.factory is not None:
            plain = replace(self.subject, setting=EAGER)
            with eager_only():
                self.moves_on_zero_grad = moves_on_zero_grad(plain, self.indexed_device)
                self.depends_on_order = depends_on_order(plain, self.indexed_device)

    def _check_model(self, model: ModelUnderTest) -> None:
        """Raise UnusableError if the optimizer cannot train every parameter of the user's model."""
        kind, target = self.subject.parameters, model.network.factory
        if "float32" not in self.subject.dtypes:
            raise UnusableError(f"it cannot train {target}, whose parameters are float32")
        for each in model.network.parameters:
            if not is_trained(kind, each):
                raise UnusableError(
                    f"it cannot train {each.name} of {target}: it trains {kind} only; give a model "
                    "of such parameters"
                )

    def _leave_out(self, identity: str) -> None:
        """Do not judge an invariant that does not apply to the subject."""
        self.invariants = tuple(i for i in self.invariants if i.id != identity)
        self.tallies.pop(identity, None)

    def searching_for(self, identity: str) -> Verification:
        """A verification of the same subject that searches for this expected failure."""
        return Verification(
            self.subject,
            self.device,
            indexed_device=self.indexed_device,
            only_invariant=identity,
            approaches=self.approaches,
            model=self.model,
            strict=self.strict,
        )

    @property
    def searched_failures(self) -> Mapping[str, str]:
        """The expected failures that have searches of their own, with the reasons.

        Nobody knows whether a user's model shows them, and a user's way is not about them.
        """
        if self.model is not None or self.approaches.way is not None:
            return {}
        stated = self.subject.searched_failures.items()
        return {identity: reason for identity, reason in stated if identity in self.tallies}

    def budget(self, count: int) -> int:
        """The number of examples, where a run has so many, that this tries in all its shards."""
        if self.only_invariant is None:
            return -(-count // self.subject.setting.one_in)
        known = self.subject.known_case(self.only_invariant) is not None
        return max(count, profiles.SEARCH_FROM_CASE if known else profiles.SEARCH)

    def has_own_search(self, identity: str) -> bool:
        """Whether another verification searches for this failure, and finds a smaller case."""
        return self.only_invariant is None and identity in self.searched_failures

    @property
    def id(self) -> str:
        """`target-label@device`, as in the ids of tests, and `#1`, `#2`, ... for shards."""
        part = "" if self.shard is None else f"#{self.shard + 1}"
        return f"{self.subject.target}-{self.subject.label}@{self.device}{part}"

    def __repr__(self) -> str:
        return f"<{self.id}>"

    def judge(self, case: Case) -> None:
        """Run `case` once, and raise the violation that names the fault most directly."""
        found = self.find_violations(case, self.known_failures)
        for invariant in sorted(found, key=lambda each: directness(each.id)):
            if self.fails(invariant):
                raise self.violation_of(invariant, found[invariant])

    @property
    def known_failures(self) -> tuple[str, ...]:
        """The ids of expected failures, which do not end a trial."""
        return () if self.only_invariant is not None else tuple(self.subject.expected_failures)

    def find_violations(self, case: Case, muted: Collection[str] = ()) -> Mapping[Invariant, str]:
        """Run `case` once, and return the violated invariants with their messages.

        Violations of `muted` invariants are counted, not returned, and do not end the trial.
        """
        self.before_each_trial()
        self.note_case(msgspec.json.encode(case))
        started = time.perf_counter()
        try:
            return self._find_violations(case, muted)
        finally:
            self.seconds += time.perf_counter() - started

    def set_aside_comparisons(self) -> tuple[Invariant, ...]:
        """Explain away what comparisons found, if two runs with one seed differ. Return these.

        Where runs differ by chance, the run with nothing frozen may by chance be alike.
        """
        repeats = self.tallies.get("repeats-itself")
        if repeats is None or repeats.shown is None or "again" not in repeats.shown.breach.roles:
            return ()
        found = []
        for invariant in self.invariants:
            tally = self.tallies[invariant.id]
            if not invariant.compares or tally is repeats or tally.shown is None:
                continue
            if not tally.shown.breach.kind.raises:
                tally.explained["does-not-repeat"] += tally.violated
                tally.judged -= tally.violated
                tally.violated, tally.case, tally.shown, tally.message = 0, None, None, ""
                found.append(invariant)
        self.set_aside += [each.id for each in found if each.id not in self.set_aside]
        return tuple(found)

    @property
    def broken(self) -> list[Invariant]:
        """The violated invariants, costs too, without expected failures; the most direct first."""
        known = self.known_failures
        ordered = sorted(self.invariants, key=lambda each: directness(each.id))
        return [i for i in ordered if self.tallies[i.id].case is not None and i.id not in known]

    def violations(self) -> list[ViolationError]:
        """The violations that fail the property, the most direct ones first."""
        return [
            self.violation_of(invariant, self.tallies[invariant.id].message)
            for invariant in self.broken
            if self.fails(invariant)
        ]

    def violation_of(self, invariant: Invariant, message: str) -> ViolationError:
        """The exception for a violation with this message."""
        return invariant.broken(message, f"{self.subject.name} on {self.device}")

    def fails(self, invariant: Invariant) -> bool:
        """Whether a violation of this invariant fails the property."""
        if self.only_invariant is not None:
            return invariant.id == self.only_invariant
        return invariant.id not in self.subject.expected_failures and (
            self.strict or invariant.severity != "cost"
        )

    def severity(self, invariant: Invariant) -> str:
        return "crash" if self.tallies[invariant.id].crashed else invariant.severity

    def _find_violations(
        self, case: Case, muted: Collection[str], explained_away: frozenset[str] = frozenset()
    ) -> Mapping[Invariant, str]:
        """The same. A trial goes on past what was explained away, in one more run."""
        if self.only_invariant == "repeats-itself" and "again" not in case.extras:
            case = case.replaced(extras=(*case.extras, "again"))
        passed = [*muted, *explained_away]
        outcome = self._run(case, passed)
        outcome.judged = [each for each in outcome.judged if each.id not in explained_away]
        fresh, by_order = _unmuted(outcome, passed), list[Invariant]()
        known = [invariant for invariant in outcome.violated if invariant.id in muted]
        if fresh or outcome.trial.crash is not None:
            nan = _nan_in(outcome.trial)
            with nans_alike(nan):
                if nan:
                    outcome = self._run(case, passed)
                    fresh = _unmuted(outcome, passed)
                reruns = Reruns(outcome, self.subject, self.indexed_device, self.approaches, passed)
                fresh, explained = attribute(reruns, fresh)
            self._count_explained(outcome, explained, fresh)
            if explained and not fresh and outcome.trial.crash is None:
                more = explained_away.union(invariant.id for invariant, _ in explained)
                return self._find_violations(case, muted, more)
            by_order = [each for each in fresh if self._is_due_to_order(each, case, reruns)]
            crash = outcome.trial.crash
            if crash is not None and not fresh and not known:
                self.rejected_cases += 1
                self.rejection_reason = f"cannot {crash.phase}, and freezing is not why: {crash}"
                return {}
        self._count_trial(outcome)
        for invariant in {*outcome.judged, *fresh} & {*self.invariants}:
            self.tallies[invariant.id].judged += 1
        # Their own search explains known violations and keeps their cases.
        for invariant in known:
            self.tallies[invariant.id].violated += 1
        return self._count_violations(case, fresh, by_order)

    def _is_due_to_order(self, invariant: Invariant, case: Case, reruns: Reruns) -> bool:
        """Whether the violation of a smallest case is gone in another order of the parameters."""
        kept = self.tallies[invariant.id].case if invariant.id in self.tallies else None
        return (
            self.depends_on_order
            and (kept is None or case.size <= kept.size)
            and reruns.unlike_runs is None  # else one more run says nothing
            and is_gone_in_order(reruns, invariant)
        )

    def _count_explained(
        self,
        outcome: Outcome,
        explained: list[tuple[Invariant, str]],
        left: Mapping[Invariant, ShownBreach],
    ) -> None:
        for invariant, reason in explained:
            if reason == "raises-without-freezing" and not self.raised_unfrozen:
                options = options_text(outcome.trial.case.groups[0].options)
                self.raised_unfrozen = f"{outcome.trial.crash}, with {options or 'no options'}"
            if reason == "raises-without-optimizer":
                self.raised_without = self.raised_without or str(outcome.trial.crash)
            if invariant.id in self.tallies:
                self.tallies[invariant.id].explained[reason] += 1
            if invariant in outcome.judged and invariant not in left:
                outcome.judged.remove(invariant)

    def _count_trial(self, outcome: Outcome) -> None:
        trial = outcome.trial
        self.trials += 1
        self.largest_rounding = max(self.largest_rounding, trial.rounding)
        self.divergence_counts.update(set(trial.diverged.values()))
        if trial.moved_on_zero_grad is not None:
            self.moves_on_zero_grad = bool(self.moves_on_zero_grad) or trial.moved_on_zero_grad

    def _count_violations(
        self,
        case: Case,
        fresh: Mapping[Invariant, ShownBreach],
        by_order: Collection[Invariant],
    ) -> Mapping[Invariant, str]:
        """Count them, keep the case if it is the smallest, and return their messages in order.

        `by_order`: those that the order of the parameters causes.
        """
        messages: dict[Invariant, str] = {}
        for invariant in (each for each in self.invariants if each in fresh):
            shown, tally = fresh[invariant], self.tallies[invariant.id]
            messages[invariant] = shown.message
            tally.violated += 1
            if tally.case is None or case.size <= tally.case.size:
                tally.crashed = shown.breach.kind.raises
                tally.case, tally.message, tally.shown = case, shown.message, shown
                tally.by_order = invariant in by_order
        return messages

    def _run(self, case: Case, muted: Collection[str] = ()) -> Outcome:
        return run_trial(
            case, self.subject, self.indexed_device, self.invariants, self.approaches, muted=muted
        )


def _unmuted(outcome: Outcome, muted: Collection[str]) -> dict[Invariant, ShownBreach]:
    return {each: shown for each, shown in outcome.violated.items() if each.id not in muted}


def _nan_in(trial: Trial) -> bool:
    """Whether there is a NaN in the last observation of any copy, on any rank."""
    ranks = [each for last in trial.records[-1:] for each in (last.observations, *last.others)]
    seen = [observation for copies in ranks for observation in copies.values()]
    tensors = [
        data
        for each in seen
        for data in (*each.weights, *(each.grads_after_backward or ()), *each.losses, *each.buffers)
        if data
    ]
    return any(has_nan(data, trial.case.dtype) for data in tensors)
