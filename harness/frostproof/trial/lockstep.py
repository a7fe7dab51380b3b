"""The one trial runner: all approaches go through the events of a case in lockstep, judged after each event."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch

from frostproof.approaches.approach import Approaches
from frostproof.invariants.breach import HELD, NOT_JUDGED, Breach, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.process.allocator import filled_memory
from frostproof.process.interruption import comes_from_outside
from frostproof.spec.case import Case, Positions
from frostproof.spec.program import Step
from frostproof.spec.subject import Subject
from frostproof.training.observation import Crash, Moment, Observation, Trial
from frostproof.training.recorder import Recorder
from frostproof.training.training import Batches, Training
from frostproof.trial.divergence import PAIRS, part
from frostproof.trial.zero_gradients import note


@dataclass(slots=True)
class Outcome:
    """What a trial showed: the invariants that it really judged, and what breaks which."""

    trial: Trial
    judged: list[Invariant] = field(default_factory=list)
    violated: dict[Invariant, Shown] = field(default_factory=dict)


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
    """Build the twins, run the program, judge after each event; stop at the first event that breaks an invariant.

    Events after that would only show consequences. The trial goes on past breaches of the invariants whose ids are `muted`:
    weights that moved are put back, and what else broke one is no longer compared with others. An exception from the optimizer
    ends the trial as its `crash`. `watched`: positions of the parameters whose state is looked at; those that the case freezes
    midway where none are given.
    """
    lockstep = _Lockstep(
        case, subject, device, approaches, case.frozen_midway if watched is None else watched
    )
    outcome = Outcome(lockstep.trial)
    judged: set[str] = set()
    for moment in lockstep.moments():
        known: list[Shown] = []
        for invariant in invariants:
            judgement = invariant.judge(lockstep.trial, moment)
            if judgement is NOT_JUDGED:
                continue
            judged.add(invariant.id)
            if judgement is not HELD:
                assert isinstance(judgement, Breach)
                shown = Shown(lockstep.trial, judgement, invariant.id, device)
                outcome.violated.setdefault(invariant, shown)
                if invariant.id in muted:
                    known.append(shown)
        if any(
            invariant.severity != "cost" and invariant.id not in muted
            for invariant in outcome.violated
        ):
            break
        lockstep.go_on_past(known)
    lockstep.close()
    outcome.judged = [invariant for invariant in invariants if invariant.id in judged]
    return outcome


class _Lockstep:
    """The twins of one case, which go through its events together."""

    def __init__(
        self, case: Case, subject: Subject, device: str, approaches: Approaches, watched: Positions
    ) -> None:
        self.case, self.subject, self.device = case, subject, device
        ways = approaches.of(case)
        self.trial = Trial(case, {role: approach.name for role, approach in ways.items()}, subject)
        self.twins: dict[str, tuple[Training, Recorder]] = {}
        batches = Batches(case, device)
        for role, approach in ways.items():
            recorder = Recorder(case, approach, watched)
            resumes = role.startswith("resumed")
            training = Training(
                case, subject, approach, device, batches, resumes=resumes, observer=recorder
            )
            self.twins[role] = training, recorder

    def moments(self) -> Iterator[Moment]:
        """Each event, once all twins have gone through it; none after one of them has raised."""
        for role, (training, recorder) in self.twins.items():
            if not self._survives(role, -1, training.build):
                return
            self.trial.starts[role] = recorder.start
        counted: set[Positions] = {()}
        before: dict[str, Observation] | None = None
        for index, event in enumerate(self.case.program):
            trace = self.subject.factory is None and isinstance(event, Step)
            frozen = self.case.mask_timeline[index].in_forward
            count = (
                trace and frozen not in counted
            )  # once is enough: the costs depend on what is frozen
            if count:
                counted.add(frozen)
            seen: dict[str, Observation] = {}
            for role, (training, recorder) in self.twins.items():
                recorder.begin(
                    event, trace=trace and role == "a", count=count and role in ("a", "b")
                )
                with filled_memory() if role == "again" else nullcontext():
                    if not self._survives(role, index, partial(training.run, index)):
                        return
                    seen[role] = recorder.end(training)
            moment = Moment(
                index,
                event,
                self.case.mask_timeline[index],
                index == len(self.case.program) - 1,
                seen,
                before,
            )
            self.trial.moments.append(moment)
            before = seen
            note(self.trial, moment)
            part(self.trial, moment)
            yield moment

    def _survives(self, role: str, index: int, run: Callable[[], None]) -> bool:
        training, recorder = self.twins[role]
        try:
            run()
        except BaseException as error:  # whatever an optimizer raises is for the caller to judge
            recorder.looking.close()
            torch.set_grad_enabled(True)
            if comes_from_outside(error):
                raise
            groups = getattr(training.optimizer, "param_groups", ())
            rates = tuple(
                float(group["lr"])
                for group in groups
                if isinstance(group.get("lr"), float | torch.Tensor)
            )
            self.trial.crash = Crash(
                role, index, training.phase, error, recorder.seen.handed, rates
            )
            return False
        return True

    def go_on_past(self, known: Sequence[Shown]) -> None:
        """Undo what known breaches have just done, so that others show. What cannot be undone is no news wherever it is compared."""
        moment = self.trial.moments[-1]
        if any(shown.breach.kind.id == "moved" for shown in known) and self._undo(moment):
            known = [shown for shown in known if shown.breach.kind.id != "moved"]
        roles = {
            role for shown in known if not shown.breach.kind.aside for role in shown.breach.roles
        }
        for pair in PAIRS:
            if roles.intersection(pair):
                self.trial.parted.setdefault(pair, "a known violation")

    def _undo(self, moment: Moment) -> bool:
        """Give what moved without a gradient its weights of before the event. Returns whether that could be done."""
        if any(seen.weights_at_step is not None for seen in moment.seen.values()):
            return False
        undone: set[int] = set()
        for role, seen in moment.seen.items():
            before, handed = self.trial.weights_before(moment, role), seen.handed
            still = [
                i
                for i in range(len(before))
                if (handed[i] is None if handed is not None else i in moment.mask.at_step)
            ]
            moved = [i for i in still if seen.weights[i] != before[i]]
            with torch.no_grad():
                for i in moved:
                    parameter = self.twins[role][1].parameters[i]
                    parameter.copy_(
                        torch.frombuffer(bytearray(before[i]), dtype=parameter.dtype).view_as(
                            parameter
                        )
                    )
            seen.weights = tuple(
                before[i] if i in moved else weight for i, weight in enumerate(seen.weights)
            )
            undone.update(moved)
        self.trial.undone[moment.number] = tuple(sorted(undone))
        return True

    def close(self) -> None:
        for training, _ in self.twins.values():
            training.release()
