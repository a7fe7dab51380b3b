"""The one trial runner: all approaches go through the events of a case in lockstep, judged after each event."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch

from frostproof.approach import Approaches
from frostproof.case import Case, Positions
from frostproof.facts import note
from frostproof.invariants import NOT_JUDGED, Invariant
from frostproof.memory import filled
from frostproof.observation import Crash, Moment, Observation, Trial
from frostproof.parting import part
from frostproof.program import Step
from frostproof.subject import Subject
from frostproof.training import Batches
from frostproof.twin import Twin


@dataclass(slots=True)
class Outcome:
    """What a trial showed: the invariants that it really judged, and what was violated, with a sentence."""

    trial: Trial
    judged: list[Invariant] = field(default_factory=list)
    violated: dict[Invariant, str] = field(default_factory=dict)


def run_trial(case: Case, subject: Subject, device: str, invariants: Sequence[Invariant], approaches: Approaches) -> Outcome:
    """Build the twins, run the program, judge after each event; stop at the first event that breaks an invariant.

    Events after that would only show consequences. An exception from the optimizer ends the trial as its `crash`.
    """
    ways = approaches.of(case)
    names = {role: approach.name for role, approach in ways.items()}
    trial = Trial(case, names, subject)
    outcome = Outcome(trial)
    twins: dict[str, Twin] = {}
    for role, approach in ways.items():
        try:
            twins[role] = Twin(case, subject, approach, device, resumes=role.startswith("resumed"))
        except Exception as error:  # whatever an optimizer raises is for the caller to judge
            trial.crash = Crash(role, -1, "build", error)
            return outcome
        trial.starts[role] = twins[role].start

    generator = torch.Generator()
    judged: set[str] = set()
    counted: set[Positions] = {()}
    last = len(case.program) - 1
    before: dict[str, Observation] | None = None
    for index, event in enumerate(case.program):
        seed = case.seed * 1000 + index + 1
        batches = batches_of(case, index, generator.manual_seed(seed), device)
        trace = subject.factory is None and isinstance(event, Step)
        frozen = case.course[index].forward
        count = trace and frozen not in counted  # once is enough: the costs depend on what is frozen
        if count:
            counted.add(frozen)
        seen: dict[str, Observation] = {}
        for role, twin in twins.items():
            try:
                with filled() if role == "again" else nullcontext():
                    seen[role] = twin.observed(event, seed, batches, trace=trace and role == "a", count=count and role in ("a", "b"))
            except Exception as error:
                torch.set_grad_enabled(True)
                trial.crash = Crash(role, index, twin.phase, error, twin.seen.handed)
                break
        if trial.crash is not None:
            break
        moment = Moment(index, event, case.course[index], index == last, seen, before)
        trial.moments.append(moment)
        before = seen
        note(trial, moment)
        part(trial, moment)
        for invariant in invariants:
            judgement = invariant.judge(trial, moment)
            if judgement is NOT_JUDGED:
                continue
            judged.add(invariant.id)
            if judgement:
                outcome.violated.setdefault(invariant, judgement)
        if any(invariant.severity != "cost" for invariant in outcome.violated):
            break
    for twin in twins.values():
        twin.release()
    outcome.judged = [invariant for invariant in invariants if invariant.id in judged]
    return outcome


def batches_of(case: Case, index: int, generator: torch.Generator, device: str) -> Batches:
    """Samples and targets for each forward pass of the event with this number."""
    event = case.program[index]
    passes = event.micro_batches if isinstance(event, Step) else 1
    dtype = getattr(torch, case.dtype)
    return [case.architecture.batch(case.batch, generator, device, dtype) for _ in range(passes)]
