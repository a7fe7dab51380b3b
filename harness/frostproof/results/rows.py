"""Results: what a run found, as data. The JSON form is fixed and versioned."""

from __future__ import annotations

import copy
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, get_args

import msgspec

from frostproof.invariants.registry import INVARIANTS

Status = Literal["held", "unusable", "doubtful", "violated", "crashed"]
"""Of a subject, the worst last."""
RowStatus = Literal["not-applicable", "unreached", "held", "expected", "doubtful", "violated"]
"""Of an invariant, what says most last. `doubtful`: seen violated in a trial, and not shown by its script."""
STATUSES: tuple[Status, ...] = get_args(Status)
ROW_STATUSES: tuple[RowStatus, ...] = get_args(RowStatus)


class InvariantRow(msgspec.Struct):
    """One invariant of one subject. `judged` and `violated` count trials; `case` and `reproducer` are file names.

    `explained`: reason why a difference is no violation -> in how many trials it was the reason.
    """

    id: str
    status: RowStatus
    severity: str
    judged: int = 0
    violated: int = 0
    message: str | None = None
    case: str | None = None
    reproducer: str | None = None
    explained: dict[str, int] = {}


class SubjectRow(msgspec.Struct):
    """One implementation of one optimizer on one device. `case` and `reproducer` are files of one that crashed."""

    target: str
    variant: str
    device: str
    version: str
    status: Status
    reason: str | None
    trials: int
    judgements: int
    seconds: float
    facts: dict[str, Any]
    invariants: list[InvariantRow]
    case: str | None = None
    reproducer: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.target, self.variant, self.device

    @property
    def name(self) -> str:
        return self.target if self.variant == "default" else f"{self.target} {self.variant}"


class Environment(msgspec.Struct):
    frostproof: str
    torch: str
    hypothesis: str
    python: str
    platform: str
    devices: list[str]
    profile: str
    seed: int | None


class Totals(msgspec.Struct):
    subjects: int
    trials: int
    judgements: int
    violated: int
    unusable: int
    seconds: float
    doubtful: int = 0


class Results(msgspec.Struct):
    """Everything that a run found, in the form of `--json`."""

    environment: Environment
    subjects: list[SubjectRow]
    totals: Totals
    format: Literal["frostproof-results"] = "frostproof-results"
    version: Literal[1, 2] = 2

    def to_json(self) -> bytes:
        """Return the JSON, in the lowest version of the format that can hold it.

        Version 2 brought the status `doubtful`. Its other new fields are ignored by readers of version 1.
        """
        statuses = {row.status for row in self.subjects}
        statuses |= {each.status for row in self.subjects for each in row.invariants}
        lowest = msgspec.structs.replace(self, version=2 if "doubtful" in statuses else 1)
        return msgspec.json.format(msgspec.json.encode(lowest), indent=1)


def merge_rows(rows: Iterable[SubjectRow]) -> list[SubjectRow]:
    """Rows of one subject on one device become one: counts add up, the worst status stays.

    Sorted, so that a file does not say which worker was the first to answer.
    """
    found: dict[tuple[str, str, str], SubjectRow] = {}
    for row in rows:
        if row.key in found:
            _absorb(found[row.key], row)
        else:
            found[row.key] = copy.deepcopy(row)
    places = {invariant.id: place for place, invariant in enumerate(INVARIANTS)}
    for row in found.values():
        row.invariants.sort(key=lambda each: places.get(each.id, len(places)))
    return sorted(found.values(), key=lambda row: row.key)


def _absorb(known: SubjectRow, row: SubjectRow) -> None:
    worse = STATUSES.index(row.status) > STATUSES.index(known.status)
    known.reason = (row.reason or known.reason) if worse else (known.reason or row.reason)
    known.status = row.status if worse else known.status
    known.case = row.case if known.case is None else known.case
    known.reproducer = row.reproducer if known.reproducer is None else known.reproducer
    known.trials += row.trials
    known.seconds += row.seconds
    known.facts = _facts(known.facts, row.facts)
    have = {each.id: each for each in known.invariants}
    for other in row.invariants:
        mine = have.get(other.id)
        if mine is None:
            known.invariants.append(copy.deepcopy(other))
        else:
            _absorb_invariant(mine, other)
    known.judgements = sum(each.judged for each in known.invariants)


def _absorb_invariant(mine: InvariantRow, other: InvariantRow) -> None:
    mine.judged += other.judged
    mine.violated += other.violated
    mine.explained = _added(mine.explained, other.explained)
    one, another = (
        (ROW_STATUSES.index(row.status), row.reproducer is not None) for row in (mine, other)
    )
    if another >= one and other.message is not None:
        mine.message, mine.case, mine.reproducer = other.message, other.case, other.reproducer
    mine.status = max(mine.status, other.status, key=ROW_STATUSES.index)


def _added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(one) + Counter(other)).items()))


def _facts(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What is known from two parts of a run: counts add up, of sizes the largest stays, anything else is the same in both."""
    both = one | other
    for name in one.keys() & other.keys():
        mine, theirs = one[name], other[name]
        if isinstance(mine, dict):
            both[name] = _added(mine, theirs)
        elif isinstance(mine, float):
            both[name] = max(mine, theirs)
        elif isinstance(mine, int) and not isinstance(mine, bool):
            both[name] = mine + theirs
    return both


def totals(subjects: list[SubjectRow], seconds: float) -> Totals:
    """Sums over the rows; `seconds` is the wall time of the run."""
    return Totals(
        subjects=len(subjects),
        trials=sum(row.trials for row in subjects),
        judgements=sum(row.judgements for row in subjects),
        violated=sum(row.status in ("violated", "crashed") for row in subjects),
        unusable=sum(row.status == "unusable" for row in subjects),
        seconds=round(seconds, 3),
        doubtful=sum(row.status == "doubtful" for row in subjects),
    )


def environment(devices: Iterable[str], profile: str, seed: int | None) -> Environment:
    version = importlib.metadata.version
    return Environment(
        version("frostproof"),
        version("torch"),
        version("hypothesis"),
        platform.python_version(),
        platform.platform(),
        sorted(set(devices)),
        profile,
        seed,
    )
