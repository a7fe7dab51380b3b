"""Replay: a saved counterexample once more, against the optimizer as it is now."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from hypothesis.strategies import SearchStrategy

from frostproof.errors import CaseError, UnusableError, UsageError, ViolationError
from frostproof.invariants.registry import BY_ID
from frostproof.optimizers.probe import probe
from frostproof.optimizers.targets import resolve
from frostproof.process.device import device_for_worker, select_devices
from frostproof.process.fence import fenced
from frostproof.spec.casefile import CRASHED, CaseFile
from frostproof.spec.subject import AUTOGRAD, Subject
from frostproof.verification.reproduction import reproductions
from frostproof.verification.verification import Verification

LIMIT = 120.0
"""Seconds after which a case hangs, whose process ended or hung before."""

SURVIVED = "frostproof: this process has survived "
"""Begins the last line of a process that has run such a case; what it then violates follows."""


class ReplayVerdict(NamedTuple):
    """What a replay showed, and in words what is violated, or why nothing could be judged.

    A violation is DOUBTFUL where its script, run in a process of its own, does not show it.
    """

    outcome: Literal["FIXED", "STILL VIOLATED", "DOUBTFUL", "NOT JUDGED"]
    text: str = ""


def replay(saved: CaseFile) -> ReplayVerdict:
    """Run the case again. Raises UsageError where its optimizer, device or invariant is not there, CaseError where the case is
    not for this optimizer.

    A case that no longer breaks its invariant, and breaks another instead, is violated still. Of what the file says, only the
    module of its target is imported, as `check` would; the optimizer is given no argument that it does not declare.
    """
    if saved.invariant == CRASHED:
        return _survived(saved)
    if saved.invariant not in BY_ID:
        raise CaseError(
            f"{saved.invariant!r} is no invariant: `frostproof list invariants` names them"
        )
    select_devices([saved.device])
    subject = _subject(saved)
    sought = Verification(
        subject,
        saved.device,
        indexed_device=device_for_worker(saved.device, 0),
        only_invariant=saved.invariant,
    )
    if not sought.tallies:
        raise CaseError(
            f"{saved.invariant} says nothing of {subject.name} on {saved.device}: search again with `frostproof check`"
        )
    for verification, instead in (
        (sought, ""),
        (_whole(subject, saved), f" (in place of {saved.invariant})"),
    ):
        try:
            violation = _judged(verification, saved)
        except UnusableError as unusable:
            return ReplayVerdict("NOT JUDGED", str(unusable))
        if violation is not None:
            doubts = [
                each.said
                for each in reproductions(verification, Path.cwd()).values()
                if each.doubtful
            ]
            text = str(violation).partition("\n")[0] + instead
            return (
                ReplayVerdict("DOUBTFUL", f"{text}; its script does not show it: {doubts[0]}")
                if doubts
                else ReplayVerdict("STILL VIOLATED", text)
            )
        rejection = verification.rejection_reason
    return ReplayVerdict("NOT JUDGED", rejection) if rejection else ReplayVerdict("FIXED")


def _whole(subject: Subject, saved: CaseFile) -> Verification:
    """The verification of every invariant."""
    return Verification(
        subject,
        saved.device,
        indexed_device=device_for_worker(saved.device, 0),
        strict=BY_ID[saved.invariant].severity == "cost",
    )


def probed_subject(saved: CaseFile) -> Subject:
    """The subject that the file names, as a run finds it before its first trial. Raises UsageError."""
    select_devices([saved.device])
    subject = _subject(saved)
    with fenced(saved.device), suppress(UnusableError):
        return probe(subject, device_for_worker(saved.device, 0))
    return subject


def _survived(saved: CaseFile) -> ReplayVerdict:
    """Run the case in a process of its own, which may die."""
    select_devices([saved.device])
    _subject(saved)  # what is wrong with the file is told by this process
    try:
        done = subprocess.run(
            [sys.executable, "-m", "frostproof.verification.replay"],
            input=msgspec.json.encode(saved),
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "PYTHONWARNINGS": "ignore",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ReplayVerdict("STILL VIOLATED", f"the process hung for {LIMIT:g} s")
    _, survived, text = done.stdout.decode(errors="replace").rpartition(SURVIVED)
    if done.returncode or not survived:
        return ReplayVerdict("STILL VIOLATED", f"the process {ending(done.returncode)}")
    return ReplayVerdict("FIXED", text.strip())


def ending(code: int) -> str:
    """How a process ended, in words.

    >>> ending(3), ending(-11)
    ('exited with code 3', 'ended with SIGSEGV')
    """
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"ended with {signal.Signals(-code).name}"
    except ValueError:
        return f"ended with signal {-code}"


def main() -> None:
    """Run the case file of the standard input, and say at the end that this process is still there."""
    saved = msgspec.json.decode(sys.stdin.buffer.read(), type=CaseFile)
    try:
        violation = _judged(
            Verification(
                probed_subject(saved),
                saved.device,
                indexed_device=device_for_worker(saved.device, 0),
            ),
            saved,
        )
        text = "" if violation is None else str(violation).partition("\n")[0]
    except (CaseError, UnusableError) as error:
        text = str(error)
    print(f"\n{SURVIVED}{f'but: {text}' if text else ''}", flush=True)


def _judged(verification: Verification, saved: CaseFile) -> ViolationError | None:
    """What the case violates. Raises UnusableError where the optimizer cannot be judged with nothing frozen."""
    with fenced(verification.indexed_device):
        try:
            verification.prepare()
            verification.judge(saved.case)
        except ViolationError as violation:
            return violation
        except UnusableError:
            raise
        except (
            Exception,
            SystemExit,
        ) as error:  # the optimizer's own exceptions end a trial, and do not come here
            raise CaseError(
                f"cannot be run with {saved.target!r}, {type(error).__name__}: {error}; search again with frostproof check"
            ) from None
    return None


def _subject(saved: CaseFile) -> Subject:
    """The implementation that the file names, with nothing known to fail."""
    if saved.target == AUTOGRAD.target:
        return AUTOGRAD
    if saved.target.endswith(":*"):
        raise CaseError(
            f"the target is {saved.target!r}: a case belongs to one optimizer, so name it as module:Name"
        )
    found = _subjects_of(saved.target)
    subject = next((each for each in found if each.variant == saved.variant), None)
    if subject is None:
        raise CaseError(
            f"{saved.target!r} has no implementation {saved.variant!r}: it has {', '.join(each.variant for each in found)}"
        )
    if subject.needs:
        raise UsageError(
            f"{saved.target!r} needs {', '.join(subject.needs)}: name a Subject, or a function of a parameter list"
        )
    if not isinstance(subject.space, SearchStrategy):
        known = {name for choice in subject.space for options in choice for name, _ in options}
        for name in (name for group in saved.case.groups for name, _ in group.options):
            if name not in known:
                raise CaseError(
                    f"{saved.target!r} takes no hyperparameter {name!r}: search again with `frostproof check`"
                )
    return replace(subject, expected_failures={}, known_cases={})


@cache
def _subjects_of(target: str) -> list[Subject]:
    try:
        return resolve([target])
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # a module may do anything when it is looked at
        raise UsageError(
            f"looking up {target!r} raised {type(error).__name__}: {error}; name an optimizer as module:Name"
        ) from None


if __name__ == "__main__":
    main()
