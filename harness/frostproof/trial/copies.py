"""The copies of one trial: a training and its recorder for each role, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import torch

from frostproof.approaches.approach import Approach
from frostproof.process.allocator import filled_memory, shuffle_addresses
from frostproof.process.interruption import comes_from_outside
from frostproof.spec.case import Case, Positions, Role
from frostproof.spec.subject import Subject
from frostproof.training.bits import bits, shard_of, tensor_of
from frostproof.training.observation import Bits, Crash, Observation
from frostproof.training.recorder import Recorder
from frostproof.training.source_lines import SourceLine, Watch, frames_of, innermost
from frostproof.training.training import Batches, Training


class Copy:
    """One role's training, and the recorder that observes it."""

    def __init__(
        self,
        role: Role,
        case: Case,
        subject: Subject,
        approach: Approach,
        batches: Batches,
        watched: Positions,
    ) -> None:
        self.role, self.case, resumes = role, case, role.startswith("resumed")
        self.recorder = Recorder(case, approach, watched)
        self.training = Training(
            case,
            subject,
            approach,
            batches.device,
            batches,
            resumes=resumes,
            observer=self.recorder,
        )

    def build(self) -> Observation | Crash:
        """Build the model and its optimizer."""
        if self.role == "again":
            shuffle_addresses()
        return self._crash(-1, self.training.build) or self.recorder.observation

    def run(self, number: int, trace: bool, count: bool) -> Observation | Crash:
        """Run the event with this number; `trace` and `count` as for `Recorder.begin`."""
        self.recorder.begin(self.case.program[number], trace=trace, count=count)
        with filled_memory() if self.role == "again" else nullcontext():
            crash = self._crash(number, partial(self.training.run, number))
            return crash or self.recorder.end()

    def watch(self, number: int, position: int) -> SourceLine | Crash | None:
        """Run an event, and return the line that moved the parameter at this position, if any."""
        parameter = self.recorder.parameters[position]
        watch = Watch(lambda: bits(parameter))
        before, previous = bits(parameter), sys.gettrace()
        sys.settrace(watch.call)
        try:
            crash = self._crash(number, partial(self.training.run, number))
        finally:
            sys.settrace(previous)
        return crash or (watch.writer if bits(parameter) != before else None)

    def _crash(self, number: int, run: Callable[[], None]) -> Crash | None:
        """The exception of a training that raises."""
        try:
            run()
        except BaseException as error:  # whatever an optimizer raises is for the caller to judge
            self.recorder.abandon()
            if comes_from_outside(error):
                raise
            groups = getattr(self.training.optimizer, "param_groups", ())
            given = (group.get("lr") for group in groups)
            rates = tuple(float(lr) for lr in given if isinstance(lr, (int, float, torch.Tensor)))
            grads = self.recorder.observation.grads_at_step
            found = innermost(frames_of(error))
            return Crash(self.role, number, self.training.phase, error, grads, rates, found)
        return None

    def restore(self, weights: Mapping[int, Bits]) -> None:
        """Give parameters, by their positions, the values that they had."""
        with torch.no_grad():
            for i, data in weights.items():
                parameter = shard_of(self.recorder.parameters[i])
                parameter.copy_(tensor_of(data, parameter.dtype).view_as(parameter))

    def release(self) -> None:
        """Release what the training holds on to."""
        self.training.release()


class Copies:
    """The copies of a case, one for each role, which draw the same batches."""

    def __init__(
        self,
        case: Case,
        subject: Subject,
        device: str,
        roles: Mapping[Role, Approach],
        watched: Positions,
    ) -> None:
        batches = Batches(case, device, subject.setting)
        self.copies = {
            role: Copy(role, case, subject, approach, batches, watched)
            for role, approach in roles.items()
        }

    def call(self, role: Role, method: str, *arguments: object) -> list[Observation | Crash]:
        """What a method of this role's copy returns, on each rank: here there is only one."""
        return [getattr(self.copies[role], method)(*arguments)]

    def restore(self, role: Role, weights: Sequence[Mapping[int, Bits]]) -> None:
        """Give parameters of this role's copy, by their positions, values: those of each rank."""
        self.copies[role].restore(*weights)
