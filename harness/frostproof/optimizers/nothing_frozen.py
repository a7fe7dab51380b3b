"""A small network trained with nothing frozen: whether an optimizer works at all on a device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from hypothesis import find, settings
from hypothesis.strategies import SearchStrategy

from frostproof.approaches.approach import Alone, RequiresGrad
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, DType, Group
from frostproof.spec.layers import (
    AnyLayer,
    Conv2d,
    Embedding,
    Flatten,
    LayerNorm,
    Linear,
    LoRALinear,
    Tanh,
)
from frostproof.spec.program import Step
from frostproof.spec.subject import Options, ParameterKind, Subject
from frostproof.training.bits import finite
from frostproof.training.observation import Trial
from frostproof.training.training import Training
from frostproof.trial.lockstep import run_trial

NETWORKS: dict[ParameterKind, tuple[Input, tuple[AnyLayer, ...]]] = {
    "any": (Input((1, 3, 3)), (Conv2d(2, 3), Tanh(), Flatten(), LayerNorm(), Linear(2))),
    "up-to-2d": (Input((3,)), (Linear(4), Tanh(), Linear(2))),
    "matrices": (Input((3,)), (Linear(4, bias=False), Tanh(), Linear(2, bias=False))),
    "sparse": (Input((2,), vocabulary=3), (Embedding(3, 2, sparse=True),)),
}

ZERO_ELEMENTS = Architecture(Input((3,)), (LoRALinear(3, rank=0), Linear(2)))
"""Some of its parameters have no elements."""

STEPS = 3
"""Steps after which some parameter must have moved, unless the subject states more."""

_PROCESS_GROUP = re.compile(
    r"process.?group|torch\.distributed|distributed package|environment variable RANK",
    re.IGNORECASE,
)
"""Matches the messages of exceptions that are raised because there is no process group."""


class Fault(NamedTuple):
    """Why a way to use an optimizer does not work."""

    step: int
    """The number of steps that it reached; -1 if the optimizer cannot be built."""

    text: str

    still: bool = False
    """Whether parameters do not move, which more steps may mend."""

    def why_not(self, what: str) -> str:
        """The reason why `what` is not tried."""
        text = self.text.replace(" with nothing frozen", "")
        return f"{what} with nothing frozen: it {text}"


class ProcessGroupError(Exception):
    """The optimizer needs a process group of torch.distributed, as its exception shows."""


def small_case(
    subject: Subject,
    dtype: DType,
    groups: int = 1,
    options: Options | None = None,
    architecture: Architecture | None = None,
) -> Case:
    """One step of the network for this kind of subject, or of another one.

    Without `options` its groups have the simplest hyperparameters that the subject draws.
    """
    architecture = architecture or Architecture(*NETWORKS[subject.parameters])
    names = [parameter.name for parameter in architecture.parameters]
    hyperparameters = simplest(subject) if options is None else options
    return Case(
        architecture,
        mask=(),
        groups=tuple(Group(tuple(names[i::groups]), hyperparameters) for i in range(groups)),
        program=(Step(),),
        dtype=dtype,
        batch=2,
        seed=1,
    )


def simplest(subject: Subject) -> Options:
    """The hyperparameters to which a drawn group shrinks."""
    if isinstance(subject.space, SearchStrategy):
        return _minimal_example(subject.space)
    return tuple(pair for choice in subject.choices for pair in choice[0])


@cache
def _minimal_example(space: SearchStrategy[dict[str, Any]]) -> Options:
    quiet = settings(database=None, derandomize=True, deadline=None)
    return tuple(find(space, lambda _: True, settings=quiet).items())


def run_unfrozen(case: Case, subject: Subject, device: str) -> Trial:
    """Run one copy of a case. Raises ProcessGroupError if the optimizer needs a process group."""
    trial = run_trial(case, subject, device, (), Alone()).trial
    crash = trial.crash
    has_group = subject.distributed or subject.setting.ranks > 1
    if crash is not None and not has_group and _PROCESS_GROUP.search(str(crash)):
        raise ProcessGroupError
    return trial


def run_steps(
    subject: Subject,
    device: str,
    dtype: DType,
    groups: int = 1,
    options: Options | None = None,
    architecture: Architecture | None = None,
) -> Trial:
    """Run a few steps of the small case."""
    case = with_steps(small_case(subject, dtype, groups, options, architecture), subject)
    return run_unfrozen(case, subject, device)


def with_steps(case: Case, subject: Subject) -> Case:
    """The case with a few steps; as many as the subject states that it needs to move."""
    steps = max(STEPS, subject.patience)
    return case.replaced(program=(Step(closure=subject.needs_closure),) * steps)


def fault_of(
    subject: Subject,
    device: str,
    dtype: DType,
    groups: int = 1,
    options: Options | None = None,
    architecture: Architecture | None = None,
) -> Fault | None:
    """Why a few steps do not work; None if they do."""
    trial = run_steps(subject, device, dtype, groups, options, architecture)
    crash = trial.crash
    if crash is not None:
        what = "be built" if crash.phase == "build" else f"{crash.phase} with nothing frozen"
        return Fault(crash.index, f"cannot {what}: {crash}")
    return _fault_of_values(trial, subject)


def _fault_of_values(trial: Trial, subject: Subject) -> Fault | None:
    """Why the weights after the last step show that the optimizer does not work."""
    parameters, steps = trial.case.parameters, len(trial.case.program)
    start, last = trial.starts["a"].weights, trial.records[-1].observations["a"].weights
    after = f"in {steps} steps with nothing frozen"
    for parameter, data in zip(parameters, last, strict=True):
        if not finite(data, trial.case.dtype):
            return Fault(steps, f"makes {parameter.name} infinite or NaN {after}")
    if last == start:
        calls = [record.observations["a"].closure for record in trial.records]
        disabled = any(call is not None and not call.grad_enabled for call in calls)
        why = "calls its closure with gradients disabled, and " if disabled else ""
        return Fault(steps, f"{why}moves no parameter {after}", still=True)
    # A discovered subject takes two lists for their names alone, and the second may be another.
    if subject.takes == "two-lists" and subject.discovered:
        ranks = [len(parameter.shape) for parameter in parameters]
        moved = {rank == 2 for rank, old, new in zip(ranks, start, last, strict=True) if old != new}
        if moved != {rank == 2 for rank in ranks}:
            return Fault(steps, f"moves nothing of one of its two lists {after}", still=True)
    return None


@cache
def refuses_empty_list(subject: Subject, device: str) -> bool:
    """Whether an optimizer of two lists raises with nothing frozen if one of them is empty."""
    vectors = Architecture(Input((3,)), (LayerNorm(),))
    for architecture in (vectors, Architecture(*NETWORKS["matrices"])):
        case = small_case(subject, subject.dtypes[0], architecture=architecture)
        if run_unfrozen(case, subject, device).crash is not None:
            return True
    return False


@contextmanager
def unfrozen_training(case: Case, subject: Subject, device: str) -> Iterator[Training]:
    """A training with nothing frozen, built; it is released at the end."""
    training = Training(case, subject, RequiresGrad(), device)
    try:
        training.build()
        yield training
    finally:
        training.release()
