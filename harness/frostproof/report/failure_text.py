"""A failure in short: what must hold, what was seen instead, on which network, and the command that runs it again."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from frostproof.errors import ViolationError, one_line
from frostproof.report.network_code import conditions, hyperparameters, network
from frostproof.spec.casefile import path_of

if TYPE_CHECKING:
    from frostproof.verification.verification import Verification


def is_violation(error: BaseException | None) -> bool:
    """Whether there is nothing more to this exception than the violations that the verification has on record."""
    if isinstance(error, ViolationError):
        return True
    return type(error) is ExceptionGroup and all(map(is_violation, error.exceptions))


def short(verification: Verification, folder: Path, doubtful: Collection[str] = ()) -> str:
    """The gravest violation with its network, and the names of the others. `folder`: where case files go; `doubtful`: the ids of
    what no script shows, which comes last.
    """
    broken = [
        i
        for i in verification.invariants
        if verification.tallies[i.id].violated and verification.fails(i)
    ]
    broken.sort(key=lambda invariant: invariant.id in doubtful)
    if not broken:
        return ""
    first, *others = broken
    tally = verification.tallies[first.id]
    lines = [f"{first.id}: {first.statement}", f"  {one_line(tally.message, 1000)}"]
    if tally.case is not None:
        case = tally.case
        event = tally.shown.breach.event if tally.shown is not None else -1
        frozen = case.mask_timeline[event].at_step if event >= 0 else case.initially_frozen
        lines += [
            "",
            *(f"    {line}" for line in network(case.architecture, frozen).splitlines()),
            "",
        ]
        lines.append(
            f"  optimizer: {verification.subject.name}({hyperparameters(case)}) on {verification.device}"
        )
        lines.append(f"  program:   {', '.join(map(repr, case.program))}")
        lines.append(
            f"  at first:  {', '.join(case.mask) or 'nothing'} frozen; {', '.join(conditions(case))}"
        )
        lines.append(f"  again:     {again(path_of(folder, *_key(verification), first.id))}")
    if others:
        lines.append(
            f"  it breaks too: {', '.join(each.id + ' (doubtful)' * (each.id in doubtful) for each in others)}"
        )
    return "\n".join(lines)


def again(path: str | Path) -> str:
    """The command that runs a saved case again."""
    return f"frostproof replay {shlex.quote(str(path))}"


def commands(paths: list[str], most: int = 8) -> Iterator[str]:
    """The commands that run these cases again, the last line one of them."""
    if len(paths) > most:
        yield f"{len(paths) - most} more cases are in {Path(paths[0]).parent}"
    yield from map(again, paths[:most])


def _key(verification: Verification) -> tuple[str, str, str]:
    return verification.subject.target, verification.subject.variant, verification.device
