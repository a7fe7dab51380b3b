"""A failure in short: the invariant, the violation, the network, and the command for a replay."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from frostproof.errors import ViolationError, one_line
from frostproof.report.network_code import case_code, case_conditions, hyperparameter_text
from frostproof.spec.casefile import path_of
from frostproof.spec.ids import directness

if TYPE_CHECKING:
    from frostproof.spec.case import Case
    from frostproof.verification.verification import Verification


def only_violations(error: BaseException | None) -> bool:
    """Whether the exception is a ViolationError, or a group of nothing but ViolationErrors."""
    if isinstance(error, ViolationError):
        return True
    return type(error) is ExceptionGroup and all(map(only_violations, error.exceptions))


def failure_text(
    verification: Verification, folder: Path, doubtful: Collection[str] = (), *, way: str = ""
) -> str:
    """The most direct violation with its network, and the ids of the others; "" if there is none.

    `folder` is where case files are written, and `way` is `module:name` of the user's own way to
    freeze. Invariants whose ids are in `doubtful` come last.
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
    lines = [f"{first.id}: {first.statement}", f"  {one_line(tally.message, 1000)}"]
    if tally.source:
        lines.append(f"  by {tally.source}")
    if tally.case is not None:
        event = tally.shown.breach.event if tally.shown is not None else -1
        lines += _case_lines(verification, tally.case, event)
        subject = verification.subject
        key = (subject.target, subject.label, verification.device)
        lines.append(f"  replay:    {replay_command(path_of(folder, *key, first.id, way=way))}")
    if others:
        names = [each.id + " (doubtful)" * (each.id in doubtful) for each in others]
        lines.append(f"  also violated: {', '.join(names)}")
    return "\n".join(lines)


def _case_lines(verification: Verification, case: Case, event: int) -> Iterator[str]:
    code = case_code(case, event if event >= 0 else None)
    yield from ("", *(f"    {line}" for line in code.splitlines()), "")
    optimizer = f"{verification.subject.name}({hyperparameter_text(case)})"
    yield f"  optimizer: {optimizer} on {verification.device}"
    yield f"  program:   {', '.join(map(repr, case.program))}"
    mask = ", ".join(case.mask) or "nothing"
    yield f"  start:     {mask} frozen; {', '.join(case_conditions(case))}"


def replay_command(path: str | Path) -> str:
    return f"frostproof replay {shlex.quote(str(path))}"


def replay_commands(paths: list[str], most: int = 8) -> Iterator[str]:
    """The replay commands of these cases, at most `most` of them, and where the other cases are."""
    if len(paths) > most:
        left = len(paths) - most
        are = "case is" if left == 1 else "cases are"
        yield f"{left} more {are} in {Path(paths[0]).parent}"
    yield from map(replay_command, paths[:most])
