"""The trial runner: all roles go through the events of one case in lockstep.

Each event is judged by every invariant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch

from frostproof.approaches.approach import Approaches
from frostproof.invariants.invariant import HELD, NOT_JUDGED, Breach, Invariant, ShownBreach
from frostproof.process.allocator import filled_memory
from frostproof.process.interruption import comes_from_outside
from frostproof.spec.case import Case, Positions, Role
from frostproof.spec.program import AnyEvent, Step
from frostproof.spec.subject import Subject
from frostproof.training.observation import Crash, EventRecord, Observation, Trial
from frostproof.training.recorder import Recorder
from frostproof.training.training import Batches, Training
from frostproof.trial.divergence import KNOWN_VIOLATION, PAIRS, note_divergence
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
    lockstep = _Lockstep(case, subject, device, approaches, watched)
    outcome = Outcome(lockstep.trial)
    judged: set[str] = set()
    for record in lockstep.records():
        known: list[ShownBreach] = []
        for invariant in invariants:
            judgement = invariant.judge(lockstep.trial, record)
            if judgement is NOT_JUDGED:
                continue
            judged.add(invariant.id)
            if judgement is not HELD:
                assert isinstance(judgement, Breach)
                shown = ShownBreach(lockstep.trial, judgement, invariant, device)
                outcome.violated.setdefault(invariant, shown)
                if invariant.id in muted:
                    known.append(shown)
        if any(i.severity != "cost" and i.id not in muted for i in outcome.violated):
            break
        lockstep.go_on_past(known)
    lockstep.close()
    outcome.judged = [invariant for invariant in invariants if invariant.id in judged]
    return outcome


class _Lockstep:
    """The trainings of one case, one for each role, which go through its events together."""

    def __init__(
        self, case: Case, subject: Subject, device: str, approaches: Approaches, watched: Positions
    ) -> None:
        self.case, self.subject, self.device = case, subject, device
        roles = approaches.roles_for(case)
        self.trial = Trial(case, {role: approach.name for role, approach in roles.items()}, subject)
        self.trainings: dict[Role, tuple[Training, Recorder]] = {}
        self.counted: set[Positions] = {()}
        """The masks under which the cost of a pass was counted. It depends on nothing else."""
        batches = Batches(case, device)
        for role, approach in roles.items():
            recorder, resumes = Recorder(case, approach, watched), role.startswith("resumed")
            training = Training(
                case, subject, approach, device, batches, resumes=resumes, observer=recorder
            )
            self.trainings[role] = training, recorder

    def records(self) -> Iterator[EventRecord]:
        """Each event, once all roles have gone through it; none after one of them has raised."""
        for role, (training, recorder) in [*self.trainings.items()]:
            if self._survives(role, -1, training.build):
                self.trial.starts[role] = recorder.observation
            elif self.trial.crash is not None:
                return
        last = len(self.case.program) - 1
        for number, event in enumerate(self.case.program):
            observations = self._observe(number, event)
            if observations is None:
                return
            mask = self.case.mask_timeline[number]
            record = EventRecord(number, event, mask, number == last, observations)
            self.trial.records.append(record)
            note_zero_gradients(self.trial, record)
            note_divergence(self.trial, record)
            yield record

    def _observe(self, number: int, event: AnyEvent) -> dict[Role, Observation] | None:
        """Run one event under every role; None where one of them raises."""
        knows = self.case.architecture.knows_layers
        trace = knows and self.subject.factory is None and isinstance(event, Step)
        frozen = self.case.mask_timeline[number].in_forward
        count = trace and frozen not in self.counted
        if count:
            self.counted.add(frozen)
        observations: dict[Role, Observation] = {}
        for role, (training, recorder) in [*self.trainings.items()]:
            recorder.begin(event, trace=trace and role == "a", count=count and role in ("a", "b"))
            with filled_memory() if role == "again" else nullcontext():
                if self._survives(role, number, partial(training.run, number)):
                    observations[role] = recorder.end()
                elif self.trial.crash is not None:
                    return None
        return observations

    def _survives(self, role: Role, number: int, run: Callable[[], None]) -> bool:
        """Whether a role does not raise. If `alone` does, it is left out, and the others go on.

        Nobody trains with an optimizer for each parameter, so that it may refuse one.
        """
        training, recorder = self.trainings[role]
        try:
            run()
        except BaseException as error:  # whatever an optimizer raises is for the caller to judge
            recorder.abandon()
            if comes_from_outside(error):
                raise
            if role == "alone":
                del self.trainings[role]
                return False
            groups = getattr(training.optimizer, "param_groups", ())
            found = (group.get("lr") for group in groups)
            rates = tuple(float(lr) for lr in found if isinstance(lr, float | torch.Tensor))
            grads = recorder.observation.grads_at_step
            self.trial.crash = Crash(role, number, training.phase, error, grads, rates)
            return False
        return True

    def go_on_past(self, known: Sequence[ShownBreach]) -> None:
        """Undo what known breaches have just done, so that others show.

        What cannot be undone explains any later difference between the roles that it concerns.
        """
        record = self.trial.records[-1]
        if any(shown.breach.kind.id == "moved" for shown in known) and self._restore(record):
            known = [shown for shown in known if shown.breach.kind.id != "moved"]
        roles = {
            role for shown in known if not shown.breach.kind.aside for role in shown.breach.roles
        }
        for pair in PAIRS:
            if roles.intersection(pair):
                self.trial.diverged.setdefault(pair, KNOWN_VIOLATION)

    def _restore(self, record: EventRecord) -> bool:
        """Restore the weights that moved without a gradient. Return whether that is possible."""
        if any(each.weights_at_step is not None for each in record.observations.values()):
            return False
        restored: set[int] = set()
        for role, observed in record.observations.items():
            before, grads = observed.weights_before, observed.grads_at_step
            still = record.mask.at_step
            if grads is not None:
                still = tuple(i for i, grad in enumerate(grads) if grad is None)
            moved = [i for i in still if observed.weights[i] != before[i]]
            with torch.no_grad():
                for i in moved:
                    parameter = self.trainings[role][1].parameters[i]
                    old = torch.frombuffer(bytearray(before[i]), dtype=parameter.dtype)
                    parameter.copy_(old.view_as(parameter))
            pairs = enumerate(observed.weights)
            observed.weights = tuple(before[i] if i in moved else w for i, w in pairs)
            restored.update(moved)
        self.trial.restored[record.number] = tuple(sorted(restored))
        return True

    def close(self) -> None:
        """Release what the trainings hold on to."""
        for training, _ in self.trainings.values():
            training.release()
