"""The suite: the verifications of a run, as parameters of the tests in `frostproof_properties`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from frostproof.doors.pytest_plugin.options import RunOptions
from frostproof.errors import ViolationError
from frostproof.optimizers.known_failures import AUTOGRAD_KNOWN_FAILURES, stated
from frostproof.optimizers.targets import (
    exists_on,
    nothing_to_run,
    resolve,
    torch_optimizers,
)
from frostproof.process.allocator import can_fill_kernel_memory
from frostproof.process.device import device_for_worker, select_devices
from frostproof.process.fence import fenced
from frostproof.spec.subject import AUTOGRAD, Subject
from frostproof.verification.requested import Requested, requested
from frostproof.verification.verification import Verification

RECORDED_AUTOGRAD = replace(AUTOGRAD, **stated(AUTOGRAD_KNOWN_FAILURES))

NOT_HERE = "the kernels of this machine do not have this bug"


def verification_params(test: str, run: RunOptions) -> list[Any]:
    """Return the values of `verification` for a test, in a fixed order. Raises UsageError."""
    return list(_TESTS[test](run))


def number_of_items(run: RunOptions) -> int:
    """Return how many tests verify the optimizers that are asked for. Raises UsageError."""
    return sum(1 for _ in (*optimizers(run), *known_failures(run)))


def optimizers(run: RunOptions) -> Iterator[Verification]:
    """Yield every subject on every device on which it exists, once for each shard."""
    for device in select_devices(run.devices):
        for subject in _subjects(run.optimizers):
            if exists_on(subject, device):
                yield from _verifications(subject, device, run)


def check_usage(run: RunOptions) -> list[str]:
    """Return a line for each target of which nothing is run on the devices.

    Raises UsageError if a device is absent, or if a target is not an optimizer or a setting none.
    """
    _requested(run)
    found = _subjects(run.optimizers) if run.optimizers else ()
    return nothing_to_run(found, select_devices(run.devices))


@cache
def _subjects(targets: tuple[str, ...]) -> tuple[Subject, ...]:
    found = resolve(targets) if targets else torch_optimizers()
    distinct = {(subject.target, subject.label): subject for subject in found}
    return tuple(sorted(distinct.values(), key=lambda subject: subject.name))


def _requested(run: RunOptions) -> Requested:
    """The settings, the model and the way that were asked for. Raises UsageError."""
    model = (run.model, run.freeze, run.input, run.training_step)
    return _loaded(run.settings, *model, run.way)


_loaded = cache(requested)


def autograd(run: RunOptions) -> Iterator[Verification]:
    for device in select_devices(run.devices):
        yield from _verifications(
            RECORDED_AUTOGRAD if device == "cpu" and kernels_show_it() else AUTOGRAD, device, run
        )


def known_failures(run: RunOptions) -> Iterator[Any]:
    """Yield a search for each expected failure of each subject.

    The expectation is strict: the test fails if the invariant holds after all.
    """
    return (param for each in optimizers(run) if not each.shard for param in _searches(each))


def known_failures_of_autograd(run: RunOptions) -> Iterator[Any]:
    """Yield searches for the CPU, on every machine the same, because they may share a run."""
    if "cpu" in select_devices(run.devices):
        yield from _searches(
            next(_verifications(RECORDED_AUTOGRAD, "cpu", run)),
            "" if kernels_show_it() else NOT_HERE,
        )


def _searches(verification: Verification, absent: str = "") -> Iterator[Any]:
    for identity, reason in verification.searched_failures.items():
        known = verification.searching_for(identity)
        expected = pytest.mark.xfail(
            strict=True, raises=ViolationError, reason=f"{identity}: {reason}"
        )
        mark = pytest.mark.skip(reason=f"{identity}: {absent}") if absent else expected
        yield pytest.param(known, id=f"{identity} of {known.id}", marks=mark)


@cache
def kernels_show_it() -> bool:
    """Whether the recorded bug of kernels reproduces on this machine, and not only by chance."""
    for identity in RECORDED_AUTOGRAD.known_cases if can_fill_kernel_memory() else ():
        case = RECORDED_AUTOGRAD.known_case(identity)
        assert case is not None
        with fenced("cpu"):
            try:
                Verification(AUTOGRAD, "cpu", only_invariant=identity).judge(case)
            except ViolationError:
                return True
    return False


def _verifications(subject: Subject, device: str, run: RunOptions) -> Iterator[Verification]:
    """Yield one verification for each setting and shard."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    shards = range(run.shards) if run.shards > 1 else (None,)
    asked = _requested(run)
    for setting, shard in itertools.product(asked.settings, shards):
        yield Verification(
            subject.in_setting(setting),
            device,
            indexed_device=device_for_worker(device, int(worker)),
            approaches=asked.approaches,
            model=asked.model,
            strict=run.strict,
            shard=shard,
        )


def _by_id(
    verifications: Callable[[RunOptions], Iterator[Verification]],
) -> Callable[[RunOptions], Iterator[Any]]:
    return lambda run: (pytest.param(each, id=each.id) for each in verifications(run))


_TESTS: dict[str, Callable[[RunOptions], Iterator[Any]]] = {
    "test_optimizer": _by_id(optimizers),
    "test_known_failure": known_failures,
    "test_autograd": _by_id(autograd),
    "test_known_failure_of_autograd": known_failures_of_autograd,
}
