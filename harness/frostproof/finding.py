"""What one test item found, on its way from a worker to the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from frostproof.case import Case
from frostproof.invariants import INVARIANTS
from frostproof.reproduction import Reproduction
from frostproof.results import InvariantRow, Status, SubjectRow
from frostproof.subject import Subject
from frostproof.verification import Verification

ORDER = (
    "its updates depend on the order of its parameters, or on how they are grouped, with nothing frozen too: "
    "where that is by design, state the reason as `positional` in a Subject"
)
DOUBTFUL = "(a doubtful finding: its standalone script does not show it"
"""In the message of a row whose status is then `unreached`, as no judgement stands."""


class Finding(msgspec.Struct):
    """What one test item reports: a subject's row, with the cases of its violations, their sizes, their scripts, and the event and
    the parameters at which each shows."""

    row: SubjectRow
    cases: dict[str, Case]
    scripts: dict[str, str] = {}
    sizes: dict[str, tuple[int, ...]] = {}
    places: dict[str, tuple[int, tuple[int, ...]]] = {}


def used_as(subject: Subject) -> str:
    """How the probe found that an optimizer can be used, in one line."""
    parts = [
        f"takes {subject.takes}" + ("" if subject.keys is None else " with keys of their own"),
        f"closure {subject.closure}",
        *([f"backward {subject.backward}"] if subject.backward != "plain" else []),
        f"trains {subject.parameters}",
        "several groups" if subject.groups else "one group",
        *(["train and eval modes"] if subject.modes else []),
        *(["in a process group of one"] if subject.distributed else []),
        *([] if subject.per_parameter else ["built anew for each mask"]),
        *([f"moves within {subject.patience} steps"] if subject.patience > 1 else []),
        " ".join(subject.dtypes),
        f"draws {_drawn(subject)}",
    ]
    return "; ".join(parts)


def _drawn(subject: Subject) -> str:
    if not isinstance(subject.space, tuple):
        return "from its own strategy"
    names = dict.fromkeys(name for choice in subject.space for options in choice for name, _ in options)
    return ", ".join(names) or "no hyperparameters"


def finding(verification: Verification, reproduced: Mapping[str, Reproduction] | None = None) -> Finding:
    """What a verification has found so far. A violation that its own script does not show is none: its row says so."""
    subject = verification.subject
    rows, cases, scripts = [], {}, {}
    for invariant in INVARIANTS:
        tally = verification.tallies.get(invariant.id)
        if tally is None or verification.reason is not None:
            if subject.factory is not None and verification.sought is None:
                rows.append(InvariantRow(invariant.id, "not-applicable", invariant.severity))
            continue
        row = InvariantRow(invariant.id, "held", verification.severity(invariant), tally.judged, tally.violated, tally.message or None)
        if tally.violated:
            row.status = "expected" if invariant.id in subject.expected_failures else "violated"
            if tally.case is not None and not verification.leaves(invariant.id):
                cases[invariant.id] = tally.case
            if row.status == "violated" and verification.depends_on_order and (invariant.compares or row.severity == "crash"):
                row.message = f"{row.message}; {ORDER}"
        elif verification.sought is not None and verification.cut_short:
            row.status = "unreached"
        elif verification.sought is not None and tally.judged:
            row.status = "violated"
            row.message = (
                f"expected to fail ({subject.expected_failures[invariant.id]}), but held in {tally.judged} trials: drop the expectation"
            )
        elif not tally.judged:
            row.status = "unreached"
        reproduction = (reproduced or {}).get(invariant.id)
        if row.status == "expected":
            row.message = f"expected: {subject.expected_failures[invariant.id]}; {tally.message}"
        if reproduction is not None:
            if reproduction.doubtful:
                row.message = f"{row.message} {DOUBTFUL}: {reproduction.said})"
                row.status = "expected" if row.status == "expected" else "unreached"
            elif reproduction.text is None:
                row.message = f"{row.message} (no standalone script: {reproduction.said})"
            else:
                scripts[invariant.id] = reproduction.text
        rows.append(row)
    judgements = sum(row.judged for row in rows)
    status: Status = "held"
    reason = verification.reason
    if reason is None and not judgements:
        reason = verification.cut_short or f"no case could be judged: {verification.rejection}"
    if reason is not None:
        status = "unusable"
    elif any(row.status == "violated" and (row.severity != "cost" or verification.strict) for row in rows):
        status = "violated"
    facts: dict[str, Any] = {}
    if verification.reason is None and subject.factory is not None:
        facts["used-as"] = used_as(subject)
    if verification.moves_on_zero_grad is not None:
        facts["moves-on-zero-grad"] = verification.moves_on_zero_grad
    if verification.partings:
        facts["partings"] = dict(sorted(verification.partings.items()))
    if subject.unable:
        facts["unable"] = list(subject.unable)
    if verification.cut_short:
        facts["cut-short"] = verification.cut_short
    if verification.rejected:
        facts["rejected-cases"] = verification.rejected
    if verification.depends_on_order:
        facts["depends-on-order"] = True
    if subject.rounding is not None or verification.rounding:
        facts["rounding-ulp"] = verification.rounding
    subject_row = SubjectRow(
        subject.target,
        subject.variant,
        verification.device,
        subject.version,
        status,
        reason,
        verification.trials,
        judgements,
        round(verification.seconds, 3),
        facts,
        rows,
    )
    shown = {identity: verification.tallies[identity].shown for identity in cases}
    places = {identity: (each.breach.event, each.breach.parameters) for identity, each in shown.items() if each is not None}
    return Finding(subject_row, cases, scripts, {identity: case.size for identity, case in cases.items()}, places)
