"""The trial runner: all roles go through the events of one case in lockstep.

Each event is judged by every invariant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from frostproof.approaches.approach import Approach, Approaches
from frostproof.errors import LostError
from frostproof.invariants.invariant import HELD, NOT_JUDGED, Breach, Invariant, ShownBreach
from frostproof.process.heartbeat import beat
from frostproof.spec.case import Case, Positions, Role
from frostproof.spec.program import AnyEvent, Step
from frostproof.spec.subject import Subject
from frostproof.training.observation import Crash, EventRecord, Observation, Trial
from frostproof.trial.copies import Copies
from frostproof.trial.divergence import KNOWN_VIOLATION, PAIRS, note_divergence
from frostproof.trial.ranks import RankedCopies
from frostproof.trial.zero_gradients import note_zero_gradients


@dataclass(slots=True)
class Outcome:
    """The result of a trial."""

    trial: Trial
    judged: list[Invariant] = field(default_factory=list)
    """The invariants that judged at least one event."""
    violated: dict[Invariant, ShownBreach] = field(default_factory=dict)
    """Each broken invariant, with its first breach."""


def run_trial(
    case: Case,
    subject: Subject,
    device: str,
    invariants: Sequence[Invariant],
    approaches: Approaches,
    *,
    muted: Collection[str] = (),
    watched: Positions | None = None,
) -> Outcome:
    """Run a case under all its approaches, and judge every event by every invariant.

    All invariants judge one trial, since running it costs far more than judging it. The trial ends
    at the first event that breaks an invariant, because later events would only show consequences.
    An exception of the optimizer ends it too, as its `crash`; which invariant that breaks can only
    be told by other runs (`frostproof.verification.attribution`).

    `muted`: ids of invariants whose breaches are known. The trial goes on past these: weights that
    moved are restored, and roles that another breach told apart are no longer compared. So a known
    violation does not hide others.

    `watched`: positions of the parameters whose optimizer state is observed; by default those that
    the program freezes.

    Runs in the caller's process, and changes its generators and torch's settings: see
    `frostproof.process.fence`.
    """
    watched = case.frozen_midway if watched is None else watched
    given = case, subject, device, invariants, approaches, muted, watched
    try:
        outcome = _run_once(*given)
        crash = outcome.trial.crash
        lost = crash is not None and isinstance(crash.error, LostError)
    except LostError:  # between two events, of which none can be blamed
        lost = True
    # A process that is lost may have been ended from outside, or only have been slow.
    return _run_once(*given) if lost else outcome


def _run_once(
    case: Case,
    subject: Subject,
    device: str,
    invariants: Sequence[Invariant],
    approaches: Approaches,
    muted: Collection[str],
    watched: Positions,
) -> Outcome:
    lockstep = _Lockstep(case, subject, device, approaches, watched)
    violated: dict[Invariant, ShownBreach] = {}
    judged: set[str] = set()
    for records in lockstep.records():
        known: list[ShownBreach] = []
        for invariant, trial, record in _each(invariants, lockstep.trials, records):
            judgement = invariant.judge(trial, record)
            if judgement is NOT_JUDGED:
                continue
            judged.add(invariant.id)
            if judgement is not HELD:
                assert isinstance(judgement, Breach)
                shown = ShownBreach(trial, judgement, invariant, device)
                violated.setdefault(invariant, shown)
                if invariant.id in muted and invariant.severity != "cost":
                    known.append(shown)  # A mere cost changes nothing that comes later.
        if any(i.severity != "cost" and i.id not in muted for i in violated):
            break
        if any(invariant.applies_in is not None for invariant in violated):
            break
        lockstep.go_on_past(known)
    lockstep.close()
    trials = lockstep.trials
    trial = next((each for each in trials if each.crash is not None), trials[0])
    outcome = Outcome(trial, [invariant for invariant in invariants if invariant.id in judged])
    outcome.violated = violated
    return outcome


def _each(
    invariants: Sequence[Invariant], trials: Sequence[Trial], records: Sequence[EventRecord]
) -> Iterator[tuple[Invariant, Trial, EventRecord]]:
    """Each invariant with the trial of each rank."""
    for invariant in invariants:
        for trial, record in zip(trials, records, strict=True):
            yield invariant, trial, record


def copies_of(
    case: Case,
    subject: Subject,
    device: str,
    roles: Mapping[Role, Approach],
    watched: Positions,
) -> Copies | RankedCopies:
    """The copies of a case: on all its ranks, where its setting has several."""
    kind = Copies if subject.setting.ranks == 1 else RankedCopies
    return kind(case, subject, device, roles, watched)


class _Lockstep:
    """The copies of one case, one for each role and rank, which go through its events together."""

    def __init__(
        self, case: Case, subject: Subject, device: str, approaches: Approaches, watched: Positions
    ) -> None:
        self.case, self.subject = case, subject
        roles = approaches.roles_for(case)
        self.roles = [*roles]
        names = {role: approach.name for role, approach in roles.items()}
        ranks = subject.setting.ranks
        self.trials = [Trial(case, names, subject, rank) for rank in range(ranks)]
        for trial in self.trials[1:]:  # what tells two roles apart on one rank does so on all
            trial.diverged, trial.restored = self.trials[0].diverged, self.trials[0].restored
        self.counted: set[Positions] = {()}
        """The masks under which the cost of a pass was counted. It depends on nothing else."""
        self.copies = copies_of(case, subject, device, roles, watched)

    @property
    def crashed(self) -> bool:
        return any(trial.crash is not None for trial in self.trials)

    def records(self) -> Iterator[list[EventRecord]]:
        """Each event on each rank, once all roles have gone through it; none after an exception."""
        for role in [*self.roles]:
            starts = self._call(role, "build")
            if self.crashed:
                return
            for trial, start in zip(self.trials, starts or (), strict=False):
                trial.starts[role] = start
        last = len(self.case.program) - 1
        for number, event in enumerate(self.case.program):
            observations = self._observe(number, event)
            if self.crashed:
                return
            mask = self.case.mask_timeline[number]
            first, *others = observations
            records = [
                EventRecord(number, event, mask, number == last, first, tuple(others)),
                *(EventRecord(number, event, mask, number == last, each) for each in others),
            ]
            for trial, record in zip(self.trials, records, strict=True):
                trial.records.append(record)
                note_zero_gradients(trial, record)
                note_divergence(trial, record)
            yield records

    def _observe(self, number: int, event: AnyEvent) -> list[dict[Role, Observation]]:
        """Run one event under every role, until one of them raises."""
        knows = self.case.architecture.knows_layers
        trace = knows and self.subject.factory is None and isinstance(event, Step)
        frozen = self.case.mask_timeline[number].in_forward
        count = trace and frozen not in self.counted
        if count:
            self.counted.add(frozen)
        observations: list[dict[Role, Observation]] = [{} for _ in self.trials]
        for role in [*self.roles]:
            arguments = number, trace and role == "a", count and role in ("a", "b")
            found = self._call(role, "run", *arguments)
            if self.crashed:
                break
            for each, observation in zip(observations, found or (), strict=False):
                each[role] = observation
        return observations

    def _call(self, role: Role, method: str, *arguments: Any) -> list[Observation] | None:
        """What each rank's copy returns, or None if one raises. `alone` is then left out.

        Nobody trains with an optimizer for each parameter, so that it may refuse one.
        """
        beat()
        answers = self.copies.call(role, method, *arguments)
        crashes = [answer for answer in answers if isinstance(answer, Crash)]
        if not crashes:
            return [answer for answer in answers if isinstance(answer, Observation)]
        if role == "alone":
            self.roles.remove(role)
        else:
            # One that only waited for the others is not the first to look at.
            crash = min(crashes, key=lambda each: bool(each.waited))
            self.trials[crash.rank].crash = crash
        return None

    def go_on_past(self, known: Sequence[ShownBreach]) -> None:
        """Undo what known breaches have just done, so that others show.

        What cannot be undone explains any later difference between the roles that it concerns.
        """
        if any(shown.breach.kind.id == "moved" for shown in known) and self._restore():
            known = [shown for shown in known if shown.breach.kind.id != "moved"]
        roles = {
            role for shown in known if not shown.breach.kind.aside for role in shown.breach.roles
        }
        for pair in PAIRS:
            if roles.intersection(pair):
                self.trials[0].diverged.setdefault(pair, KNOWN_VIOLATION)

    def _restore(self) -> bool:
        """Restore the weights that moved without a gradient. Return whether that is possible.

        On all ranks the same ones are restored, so that ranks stay alike.
        """
        records = [trial.records[-1] for trial in self.trials]
        every = [each for record in records for each in record.observations.values()]
        if any(each.weights_at_step is not None for each in every):
            return False
        restored: set[int] = set()
        for role in records[0].observations:
            observed = [record.observations[role] for record in records]
            moved = {i for each in observed for i in _moved_without_gradient(records[0], each)}
            if not moved:
                continue
            for each in observed:
                pairs = enumerate(each.weights)
                old = each.weights_before
                each.weights = tuple(old[i] if i in moved else w for i, w in pairs)
            self.copies.restore(role, [{i: each.weights[i] for i in moved} for each in observed])
            restored.update(moved)
        self.trials[0].restored[records[0].number] = tuple(sorted(restored))
        return True

    def close(self) -> None:
        """Release what the trainings hold on to."""
        for role in self.roles:
            self.copies.call(role, "release")


def _moved_without_gradient(record: EventRecord, observed: Observation) -> list[int]:
    """What moved without a gradient, or with one that B left and gave to no optimizer."""
    grads, still, owned = observed.grads_at_step, record.mask.at_step, observed.owned
    if grads is not None:
        still = tuple(i for i, grad in enumerate(grads) if grad is None or i not in owned)
    return [i for i in still if observed.weights[i] != observed.weights_before[i]]
