"""The bare torch loop: what a trial costs without generation, observation and judgement."""

from __future__ import annotations

import torch

from frostproof.approach import Approaches
from frostproof.case import Case
from frostproof.subject import Subject
from frostproof.training import Training
from frostproof.trial import batches_of


def bare_trial(case: Case, subject: Subject, device: str = "cpu") -> None:
    """Build, data and events of `case` under the approaches that it calls for; an exception ends it, as it ends a trial."""
    ways = Approaches().of(case)
    trainings = [Training(case, subject, way, device, resumes=role.startswith("resumed")) for role, way in ways.items()]
    generator = torch.Generator()
    for number, event in enumerate(case.program):
        seed = case.seed * 1000 + number + 1
        batches = batches_of(case, number, generator.manual_seed(seed), device)
        for training in trainings:
            try:
                training.run(event, seed, batches)
            except Exception:
                return
