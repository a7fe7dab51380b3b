"""A failure in short: the violation, the network that shows it, and the command for a replay."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from frostproof.errors import ViolationError, one_line
from frostproof.invariants.registry import BY_ID
from frostproof.report.network_code import case_code, case_conditions, hyperparameter_text
from frostproof.spec.ids import directness

if TYPE_CHECKING:
    from frostproof.spec.casefile import CaseFile
    from frostproof.verification.verification import Verification


def only_violations(error: BaseException | None) -> bool:
    """Whether the exception is a ViolationError, or a group of nothing but ViolationErrors."""
    if isinstance(error, ViolationError):
        return True
    return type(error) is ExceptionGroup and all(map(only_violations, error.exceptions))


def failure_line(verification: Verification, doubtful: Collection[str] = ()) -> str:
    """The most direct violation in one line, and the ids of the others; "" if there is none.

    Invariants whose ids are in `doubtful` come last.
    """
    broken = [
        invariant
        for invariant in verification.invariants
        if verification.tallies[invariant.id].violated and verification.fails(invariant)
    ]
    broken.sort(key=lambda each: (each.id in doubtful, directness(each.id)))
    if not broken:
        return ""
    first, *others = broken
    tally = verification.tallies[first.id]
    line = one_line(f"{first.id}: {tally.message}", 1000)
    line += f"; by {tally.source}" if tally.source else ""
    names = [each.id + " (doubtful)" * (each.id in doubtful) for each in others]
    return f"{line}; also violated: {', '.join(names)}" if names else line


def counterexample_lines(found: CaseFile) -> Iterator[str]:
    """The network of a counterexample with what is frozen, its optimizer and its program."""
    case = found.case
    network = case_code(case, found.event_in_program)
    yield from ("", *(f"        {line}" for line in network.splitlines()), "")
    yield f"    optimizer: {found.target.rpartition(':')[2]}({hyperparameter_text(case)})"
    yield f"    program: {', '.join(map(repr, case.program))}"
    mask = ", ".join(case.mask) or "nothing"
    yield f"    start: {mask} frozen; {', '.join(case_conditions(case))}"
    if not found.way and (mend := mend_of(found.invariant)):
        yield f"    mend: {mend}"


def mend_of(identity: str) -> str:
    """What an optimizer that violates this invariant should do; "" where that is not known."""
    return BY_ID[identity].mend if identity in BY_ID else ""


def replay_command(path: str | Path) -> str:
    return f"frostproof replay {shlex.quote(str(path))}"


def replay_commands(paths: list[str], most: int = 8) -> Iterator[str]:
    """The replay commands of these cases, at most `most` of them, and where the other cases are."""
    if len(paths) > most:
        left = len(paths) - most
        are = "case is" if left == 1 else "cases are"
        yield f"{left} more {are} in {Path(paths[0]).parent}"
    yield from map(replay_command, paths[:most])
