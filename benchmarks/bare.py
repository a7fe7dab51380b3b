"""The bare torch loop: what a trial costs without generation, observation and judgement."""

from __future__ import annotations

from frostproof.approaches.approach import Approaches
from frostproof.spec.case import Case
from frostproof.spec.subject import Subject
from frostproof.training.training import Batches, Training


def bare_trial(case: Case, subject: Subject, device: str = "cpu") -> None:
    """Run `case` under its approaches, unobserved. An exception ends it, as it ends a trial."""
    batches = Batches(case, device)
    ways = Approaches().roles_for(case)
    trainings = [
        Training(case, subject, way, device, batches, resumes=role.startswith("resumed"))
        for role, way in ways.items()
    ]
    try:
        for training in trainings:
            training.build()
        for number in range(len(case.program)):
            for training in trainings:
                training.run(number)
    except Exception:
        return
