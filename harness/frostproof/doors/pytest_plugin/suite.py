"""The suite: which verifications a run consists of, as parameters of the tests in `frostproof_properties`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from frostproof.doors.pytest_plugin.options import Run
from frostproof.invariants.invariant import Violation
from frostproof.optimizers.known_failures import AUTOGRAD_KNOWN_FAILURES
from frostproof.optimizers.targets import ONLY_ON, resolve, torch_optimizers
from frostproof.process.allocator import fills_all
from frostproof.process.device import chosen, is_accelerator, placed
from frostproof.process.fence import fenced
from frostproof.spec.subject import AUTOGRAD, Subject
from frostproof.verification.verification import Verification

RECORDED_AUTOGRAD = replace(AUTOGRAD, **AUTOGRAD_KNOWN_FAILURES)

NOT_HERE = "the kernels of this machine do not show it"


def parameters(test: str, run: Run) -> list[Any]:
    """The values of `verification` for the test called `test`, in a fixed order. Raises UsageError."""
    return list(_TESTS[test](run))


def optimizers(run: Run) -> Iterator[Verification]:
    """Every subject on every device on which its implementation exists, as many times as there are shards."""
    for device in chosen(run.devices):
        for subject in _subjects(run.optimizers):
            if exists_on(subject, device):
                yield from _verifications(subject, device, run)


def check_usage(run: Run) -> None:
    """Raise UsageError where a device is absent, or a target is no optimizer."""
    chosen(run.devices)
    resolve(run.optimizers)


@cache
def _subjects(targets: tuple[str, ...]) -> tuple[Subject, ...]:
    found = resolve(targets) if targets else torch_optimizers()
    return tuple(sorted(found, key=lambda subject: subject.name))


def autograd(run: Run) -> Iterator[Verification]:
    for device in chosen(run.devices):
        yield from _verifications(
            RECORDED_AUTOGRAD if device == "cpu" and kernels_show_it() else AUTOGRAD, device, run
        )


def known_failures(run: Run) -> Iterator[Any]:
    """A search for each expected failure of each subject; strict, so that one which holds after all is a failure.

    Not on meta, where a search would take long and show nothing that it does not show elsewhere.
    """
    return (
        param
        for each in optimizers(run)
        if each.device != "meta" and not each.shard
        for param in _searches(each)
    )


def known_failures_of_autograd(run: Run) -> Iterator[Any]:
    """On the CPU. Every machine has the same items, since those of one run may be spread over several."""
    if "cpu" in chosen(run.devices):
        yield from _searches(
            next(_verifications(RECORDED_AUTOGRAD, "cpu", run)),
            "" if kernels_show_it() else NOT_HERE,
        )


def _searches(verification: Verification, absent: str = "") -> Iterator[Any]:
    for identity, reason in verification.subject.expected_failures.items():
        if identity in verification.tallies:
            known = verification.searching_for(identity)
            expected = pytest.mark.xfail(
                strict=True, raises=Violation, reason=f"{identity}: {reason}"
            )
            mark = pytest.mark.skip(reason=f"{identity}: {absent}") if absent else expected
            yield pytest.param(known, id=f"{identity} of {known.id}", marks=mark)


@cache
def kernels_show_it() -> bool:
    """Whether this machine's kernels break what they are on record for, in the case that is on record, and not by chance alone."""
    for identity in RECORDED_AUTOGRAD.known_cases if fills_all() else ():
        case = RECORDED_AUTOGRAD.known_case(identity)
        assert case is not None
        with fenced("cpu"):
            try:
                Verification(AUTOGRAD, "cpu", only_invariant=identity).judge(case)
            except Violation:
                return True
    return False


def _verifications(subject: Subject, device: str, run: Run) -> Iterator[Verification]:
    """One for each shard. On meta there is too little to split."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    for shard in range(run.shards) if run.shards > 1 and device != "meta" else (None,):
        yield Verification(
            subject,
            device,
            indexed_device=placed(device, int(worker)),
            strict=run.strict,
            shard=shard,
        )


def exists_on(subject: Subject, device: str) -> bool:
    """Whether this implementation is looked at on `device`."""
    where = next(
        (
            ONLY_ON[argument]
            for argument, chosen in subject.arguments.items()
            if chosen and argument in ONLY_ON
        ),
        None,
    )
    return where is None or where == device or (where == "accelerators" and is_accelerator(device))


def _on(
    verifications: Callable[[Run], Iterator[Verification]], meta: bool
) -> Callable[[Run], Iterator[Any]]:
    return lambda run: (
        pytest.param(each, id=each.id)
        for each in verifications(run)
        if (each.device == "meta") == meta
    )


_TESTS: dict[str, Callable[[Run], Iterator[Any]]] = {
    "test_optimizer": _on(optimizers, meta=False),
    "test_optimizer_on_meta": _on(optimizers, meta=True),
    "test_known_failure": known_failures,
    "test_autograd": _on(autograd, meta=False),
    "test_known_failure_of_autograd": known_failures_of_autograd,
    "test_autograd_on_meta": _on(autograd, meta=True),
}
