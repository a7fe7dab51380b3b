"""Replay: a saved counterexample is run again, with the optimizer as it is now."""

from __future__ import annotations

import ast
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

from frostproof.approaches.approach import Approaches
from frostproof.approaches.helper import load_way
from frostproof.errors import FROM_USERS, CaseError, UnusableError, UsageError
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.registry import BY_ID
from frostproof.optimizers.discovery import options_of
from frostproof.optimizers.probe import probe
from frostproof.optimizers.targets import resolve, resolve_setting
from frostproof.process.device import device_for_worker, select_devices
from frostproof.process.fence import fenced
from frostproof.spec.casefile import CRASHED, CaseFile
from frostproof.spec.ids import directness
from frostproof.spec.setting import BY_NAME, EAGER, Setting
from frostproof.spec.subject import AUTOGRAD, Subject, drawn_names, given_arguments
from frostproof.spec.user_model import UserModel
from frostproof.training.user_models import check_unchanged
from frostproof.verification.attribution import EXPLANATIONS
from frostproof.verification.reproduction import reproductions
from frostproof.verification.verification import Verification

LIMIT = 120.0
"""Seconds after which a case that ended its process, or hung, is taken to hang."""

SURVIVED = "frostproof: this process has survived "
"""The start of the last line of a process that ran such a case; the violation follows."""


class ReplayVerdict(NamedTuple):
    """What a replay showed."""

    outcome: Literal["FIXED", "STILL VIOLATED", "AS EXPECTED", "DOUBTFUL", "NOT JUDGED"]
    """AS EXPECTED: it is violated, as was stated. DOUBTFUL: it is violated, and its script, in a
    process of its own, does not show that."""

    text: str = ""
    """The violation, or why nothing could be judged."""


def replay(saved: CaseFile) -> ReplayVerdict:
    """Run the case again.

    If it now breaks another invariant instead of its own, it is still violated. The file is not
    trusted: only the module of its target is imported, as `check` would, and the optimizer gets no
    argument that it does not declare. Raises UsageError if the optimizer, the device or the
    invariant is missing, and CaseError if the case is not for this optimizer.
    """
    if saved.invariant == CRASHED:
        return _replay_in_child(saved)
    if saved.invariant not in BY_ID:
        raise CaseError(
            f"{saved.invariant!r} is not an invariant: `frostproof list invariants` names them"
        )
    own = BY_ID[saved.invariant]
    select_devices([saved.device])
    subject = _subject(saved)
    if isinstance(saved.case.architecture, UserModel):
        check_unchanged(saved.case.architecture)
    verification = Verification(
        subject,
        saved.device,
        indexed_device=device_for_worker(saved.device, 0),
        strict=own.severity == "cost",
        approaches=approaches_of(saved),
    )
    if own.id not in verification.tallies:
        raise CaseError(
            f"{own.id} does not apply to {subject.name} on {saved.device}: "
            "search again with `frostproof check`"
        )
    try:
        found = _violations(verification, saved)
    except UnusableError as unusable:
        return ReplayVerdict("NOT JUDGED", str(unusable))
    if not found:
        rejection = verification.rejection_reason
        if rejection:
            return ReplayVerdict("NOT JUDGED", rejection)
        return ReplayVerdict("FIXED", _explained(verification, own))
    shown = own if own in found else min(found, key=lambda each: directness(each.id))
    text = str(verification.violation_of(shown, found[shown])).partition("\n")[0]
    if shown is not own:
        text = f"{own.id} holds now, and the case breaks another invariant: {text}"
    reproduction = reproductions(verification, Path.cwd(), [shown.id])[shown.id]
    if reproduction.doubtful:
        text = f"{text}; its script does not show it: {reproduction.said}"
        return ReplayVerdict("DOUBTFUL", text)
    if saved.expected:
        return ReplayVerdict("AS EXPECTED", f"{saved.expected}; {text}")
    return ReplayVerdict("STILL VIOLATED", text)


def probed_subject(saved: CaseFile) -> Subject:
    """The subject of the file, as it is before its first trial. Raises UsageError."""
    select_devices([saved.device])
    subject = _subject(saved)
    with fenced(saved.device), suppress(UnusableError):
        return probe(subject, device_for_worker(saved.device, 0))
    return subject


def _replay_in_child(saved: CaseFile) -> ReplayVerdict:
    """Run the case in a child process, which may die."""
    select_devices([saved.device])
    _subject(saved)  # raises here what is wrong with the file
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


def replay_in_this_process() -> None:
    """Run the case file of the standard input, and print at the end that this process survived."""
    saved = msgspec.json.decode(sys.stdin.buffer.read(), type=CaseFile)
    device = device_for_worker(saved.device, 0)
    try:
        verification = Verification(
            probed_subject(saved),
            saved.device,
            indexed_device=device,
            approaches=approaches_of(saved),
        )
        found = _violations(verification, saved)
        text = "; ".join(f"{each.id}: {message}" for each, message in found.items())
    except (CaseError, UnusableError) as error:
        text = str(error)
    print(f"\n{SURVIVED}{f'but: {text}' if text else ''}", flush=True)


def _violations(verification: Verification, saved: CaseFile) -> dict[Invariant, str]:
    """What the case violates, with the messages.

    Violations hide others, as in the search: each that is not the case's own is muted, and the case
    run again, until its own shows. Raises UnusableError, or CaseError if it cannot run.
    """
    found: dict[Invariant, str] = {}
    with fenced(verification.indexed_device, verification.subject.setting):
        try:
            verification.prepare()
            _check_arguments(verification.subject, saved)
            while saved.invariant not in {each.id for each in found}:
                muted = {each.id for each in found}
                fresh = verification.find_violations(saved.case, muted)
                found |= {each: fresh[each] for each in fresh if verification.fails(each)}
                if len(found) == len(muted):
                    break
        except (UnusableError, CaseError):
            raise
        # Exceptions of the optimizer end a trial, and are judged. These have another cause.
        except FROM_USERS as error:
            raise CaseError(
                f"cannot be run with {saved.target!r}, {type(error).__name__}: {error}; "
                "search again with frostproof check"
            ) from None
    return found


def _explained(verification: Verification, invariant: Invariant) -> str:
    """What the case still shows that is not held against the optimizer; empty if nothing."""
    ids = verification.tallies[invariant.id].explained
    found = [f"{each.id}: {each.sentence}" for each in EXPLANATIONS if each.id in ids]
    return f"a difference is left that has another cause, {'; '.join(found)}" if found else ""


def _check_arguments(subject: Subject, saved: CaseFile) -> None:
    """Raise CaseError if another Subject of this target was built with other arguments."""
    now = given_arguments(subject)
    # Earlier versions wrote strings without quotes.
    if saved.arguments is not None and saved.arguments.replace("'", "") != now.replace("'", ""):
        raise CaseError(
            f"found with a Subject that is given {saved.arguments or 'no arguments'}, and "
            f"{saved.target!r} is given {now or 'none'}: give --target module:NAME of a Subject "
            "with these arguments"
        )


def _with_saved_arguments(subject: Subject, saved: CaseFile) -> Subject:
    """A class that a Subject without a name of its own gave arguments gets these arguments.

    The file may only name values that are written as numbers, strings and tuples, of arguments that
    the class declares.
    """
    text = saved.arguments or ""
    if not subject.discovered or subject.stated or text == given_arguments(subject):
        return subject
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        given = {each.arg: ast.literal_eval(each.value) for each in getattr(call, "keywords", ())}
    except (SyntaxError, ValueError):
        return subject
    if not given.keys() <= {*options_of(subject.factory), *subject.needs, *subject.arguments}:
        return subject
    left = tuple(name for name in subject.needs if name not in given)
    return replace(subject, arguments=given, needs=left)


def _subject(saved: CaseFile) -> Subject:
    """The variant that the file names, without expected failures. Raises CaseError, UsageError."""
    target = saved.target
    if target == AUTOGRAD.target:
        return replace(AUTOGRAD, setting=setting_of(saved))
    if target.endswith(":*"):
        raise CaseError(
            f"the target is {target!r}: a case belongs to one optimizer, so name it as module:Name"
        )
    found = [replace(each, setting=setting_of(saved)) for each in _resolve_target(target)]
    subject = next((each for each in found if each.label == saved.variant), None)
    if subject is None:
        variants = ", ".join(each.label for each in found)
        raise CaseError(
            f"{target!r} has no implementation {saved.variant!r}: it has {variants}; a Subject of "
            "your own needs its own name as its target, module:NAME"
        )
    subject = _with_saved_arguments(subject, saved)
    if subject.needs:
        _check_arguments(subject, saved)
        raise UsageError(
            f"{target!r} needs {', '.join(subject.needs)}: "
            "name a Subject, or a function of a parameter list"
        )
    if not isinstance(subject.space, SearchStrategy):
        known = {*drawn_names(subject), *options_of(subject.factory)}
        for name in (name for group in saved.case.groups for name, _ in group.options):
            if name not in known:
                raise CaseError(
                    f"{target!r} takes no hyperparameter {name!r}: "
                    "search again with `frostproof check`"
                )
    return replace(subject, expected_failures={}, known_cases={})


def setting_of(saved: CaseFile) -> Setting:
    """The setting that the variant of a case file names; eager if it names none.

    Raises UsageError if it is one of the user's, and absent.
    """
    _, _, name = saved.variant.rpartition("+")
    if ":" in name or name in BY_NAME:
        return resolve_setting(name)
    return EAGER


def approaches_of(saved: CaseFile) -> Approaches:
    """The approaches, with the user's own way if the file names one. Raises UsageError."""
    return Approaches(way=load_way(saved.way) if saved.way else None)


@cache
def _resolve_target(target: str) -> list[Subject]:
    return resolve([target])


if __name__ == "__main__":
    replay_in_this_process()
