"""The results of a run as data. Their JSON is fixed and versioned."""

from __future__ import annotations

import copy
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypedDict, cast, get_args

import msgspec

from frostproof.invariants.registry import INVARIANTS

Status = Literal["held", "unusable", "doubtful", "violated", "crashed"]
"""The status of a subject; the worst comes last."""
RowStatus = Literal["not-applicable", "unreached", "held", "expected", "doubtful", "violated"]
"""The status of an invariant; the one that says most comes last.

`doubtful`: a trial violated it, and the violation's script does not show that.
"""
PHASES = ("probe", "search", "shrink", "scripts")
"""What an optimizer's time is spent on, in this order."""

STATUSES: tuple[Status, ...] = get_args(Status)
ROW_STATUSES: tuple[RowStatus, ...] = get_args(RowStatus)


Facts = TypedDict(
    "Facts",
    {
        "way": str,
        "used-as": str,
        "not-drawn": list[str],
        "moves-on-zero-grad": bool,
        "partings": dict[str, int],
        "not-as-alone": str,
        "unable": list[str],
        "not-tried": list[str],
        "raises": list[str],
        "raises-without-optimizer": list[str],
        "cut-short": str,
        "rejected-cases": int,
        "depends-on-order": bool,
        "rounding-ulp": float,
        "own-options": str,
    },
    total=False,
)
"""What is known of a subject besides its verdicts: see docs/results.md."""


class InvariantRow(msgspec.Struct):
    """One invariant of one subject."""

    id: str
    status: RowStatus
    severity: str

    judged: int = 0
    """The number of trials that it judged."""

    violated: int = 0
    """The number of trials that violated it."""

    message: str | None = None

    case: str | None = None
    """The path of the file with the smallest case."""

    reproducer: str | None = None
    """The path of the script that shows the violation."""

    violation_class: str | None = msgspec.field(default=None, name="class")
    """What the optimizer does wrong where the invariant is violated: freezing, groups, checkpoint,
    closure, randomness or cost. The JSON calls it `class`."""

    source: str | None = None
    """The line of the optimizer's source that moved the weight, or raised: `PATH:LINE in NAME():`
    and its text; None where it is not known."""

    expected_reason: str | None = None
    """Why it was stated to fail; None if it was not stated."""

    explained: dict[str, int] = {}
    """Id of an explanation -> the number of trials in which it explained a breach away."""

    @property
    def is_stale(self) -> bool:
        """Whether it was expected to fail, and held."""
        return self.status == "violated" and not self.violated

    def is_grave(self, *, strict: bool) -> bool:
        """Whether it fails a run in which it is violated or doubtful. Costs do so if `strict`."""
        return strict or self.severity != "cost" or self.is_stale


class RowKey(NamedTuple):
    """What a row is about: no other row of a run has the same key."""

    target: str
    variant: str
    device: str
    way: str
    """The name of the user's own way to freeze, if any."""


class SubjectRow(msgspec.Struct):
    """One implementation of one optimizer on one device."""

    target: str
    variant: str
    device: str

    version: str
    """The version of the optimizer's distribution."""

    status: Status

    reason: str | None
    """Why it is unusable, or how its process ended."""

    trials: int

    judgements: int
    """The number of judgements of all invariants together."""

    seconds: float
    """The time that its trials took, in all processes together."""

    facts: Facts
    """What is known besides the verdicts."""

    invariants: list[InvariantRow]

    case: str | None = None
    """The path of the case at which its process ended."""

    reproducer: str | None = None
    """The path of the script that shows how its process ends."""

    phases: dict[str, float] = {}
    """Phase -> the seconds that it took, in all processes together: probe, search, shrink and
    scripts."""

    @property
    def key(self) -> RowKey:
        return RowKey(self.target, self.variant, self.device, self.facts.get("way", ""))

    @property
    def name(self) -> str:
        name = self.target if self.variant == "default" else f"{self.target} {self.variant}"
        return f"{name} with --way {self.facts['way']}" if "way" in self.facts else name


class Environment(msgspec.Struct):
    """Where and how a run was made."""

    frostproof: str
    torch: str
    hypothesis: str
    python: str
    platform: str
    devices: list[str]
    profile: str

    seed: int | None
    """None if several runs with different seeds were merged."""


class Totals(msgspec.Struct):
    """Sums over all subjects."""

    subjects: int
    trials: int
    judgements: int

    violated: int
    """Subjects that violate an invariant or crash."""

    unusable: int

    seconds: float
    """The wall time of the run, or the sum of several."""

    doubtful: int = 0


class Results(msgspec.Struct):
    """The results of a run, as `--json` writes them."""

    environment: Environment
    subjects: list[SubjectRow]
    totals: Totals
    format: Literal["frostproof-results"] = "frostproof-results"
    version: Literal[1, 2] = 2

    def to_json(self) -> bytes:
        """Return the JSON, in the lowest version of the format that can hold it.

        Version 2 added the status `doubtful`. Readers of version 1 ignore its other new fields.
        """
        statuses: set[str] = {row.status for row in self.subjects}
        statuses |= {each.status for row in self.subjects for each in row.invariants}
        version: Literal[1, 2] = 2 if "doubtful" in statuses else 1
        lowest = msgspec.structs.replace(self, version=version)
        return msgspec.json.format(msgspec.json.encode(lowest), indent=1)


def merge_rows(rows: Iterable[SubjectRow]) -> list[SubjectRow]:
    """Merge the rows of each subject on each device: counts add up, and the worst status stays.

    The rows are sorted, so that they do not depend on which worker answered first.
    """
    found: dict[RowKey, SubjectRow] = {}
    for row in rows:
        if row.key in found:
            _merge_into(found[row.key], row)
        else:
            found[row.key] = copy.deepcopy(row)
    places = {invariant.id: place for place, invariant in enumerate(INVARIANTS)}
    for row in found.values():
        row.invariants.sort(key=lambda each: places.get(each.id, len(places)))
    return sorted(found.values(), key=lambda row: row.key)


def _merge_into(known: SubjectRow, row: SubjectRow) -> None:
    worse = STATUSES.index(row.status) > STATUSES.index(known.status)
    known.reason = (row.reason or known.reason) if worse else (known.reason or row.reason)
    known.status = row.status if worse else known.status
    known.case = row.case if known.case is None else known.case
    known.reproducer = row.reproducer if known.reproducer is None else known.reproducer
    known.trials += row.trials
    known.seconds += row.seconds
    known.phases = add_seconds((known.phases, row.phases))
    known.facts = _merge_facts(known.facts, row.facts)
    have = {each.id: each for each in known.invariants}
    for other in row.invariants:
        mine = have.get(other.id)
        if mine is None:
            known.invariants.append(copy.deepcopy(other))
        else:
            _merge_into_invariant(mine, other)
    known.judgements = sum(each.judged for each in known.invariants)


def _merge_into_invariant(mine: InvariantRow, other: InvariantRow) -> None:
    stale = mine.is_stale or other.is_stale
    mine.judged += other.judged
    mine.violated += other.violated
    mine.expected_reason = mine.expected_reason or other.expected_reason
    mine.explained = _add_counts(mine.explained, other.explained)
    one, another = (
        (ROW_STATUSES.index(row.status), row.reproducer is not None) for row in (mine, other)
    )
    if other.message is not None and (another >= one or mine.message is None):
        mine.message, mine.case, mine.reproducer = other.message, other.case, other.reproducer
        mine.violation_class, mine.source = other.violation_class, other.source
        mine.severity = other.severity
    mine.status = max(mine.status, other.status, key=ROW_STATUSES.index)
    if stale and not mine.is_stale:
        mine.message = (
            f"violated in {mine.violated} trials, and in none of the search of its own: "
            "state one of its cases in known_cases, so that this search begins with it"
        )


def _add_counts(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(one) + Counter(other)).items()))


def add_seconds(phases: Iterable[dict[str, float]]) -> dict[str, float]:
    """The sum of the seconds of each phase, in the order of the phases."""
    found: dict[str, float] = {}
    for each in phases:
        for phase, seconds in each.items():
            found[phase] = round(found.get(phase, 0.0) + seconds, 3)
    return {phase: found[phase] for phase in PHASES if phase in found}


def _merge_facts(one: Facts, other: Facts) -> Facts:
    """Counts (integers) add up, the largest size (float) stays, and lists are joined.

    Others are equal in both.
    """
    both: dict[str, Any] = {**one, **other}
    for name in one.keys() & other.keys():
        mine, theirs = cast(dict[str, Any], one)[name], both[name]
        if isinstance(mine, dict):
            both[name] = _add_counts(mine, theirs)
        elif isinstance(mine, list):
            both[name] = sorted({*mine, *theirs})
        elif isinstance(mine, float):
            both[name] = max(mine, theirs)
        elif isinstance(mine, int) and not isinstance(mine, bool):
            both[name] = mine + theirs
    return cast(Facts, both)


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
    """The environment of this process."""
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
