"""What one test item found, on its way from a worker to the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from frostproof.case import Case
from frostproof.invariants import INVARIANTS
from frostproof.reproduction import Reproduction
from frostproof.results import InvariantRow, Status, SubjectRow
from frostproof.verification import Verification

DOUBTFUL = "(a doubtful finding: its standalone script does not show it"
"""In the message of a row whose status is then `unreached`, as no judgement stands."""


class Finding(msgspec.Struct):
    """What one test item reports: a subject's row, with the cases of its violations and their scripts still inside."""

    row: SubjectRow
    cases: dict[str, Case]
    scripts: dict[str, str] = {}


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
            if tally.case is not None:
                cases[invariant.id] = tally.case
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
        reason = f"no case could be judged: {verification.rejection}"
    if reason is not None:
        status = "unusable"
    elif any(row.status == "violated" and (row.severity != "cost" or verification.strict) for row in rows):
        status = "violated"
    facts: dict[str, Any] = {}
    if verification.moves_on_zero_grad is not None:
        facts["moves-on-zero-grad"] = verification.moves_on_zero_grad
    if verification.partings:
        facts["partings"] = dict(sorted(verification.partings.items()))
    if subject.unable:
        facts["unable"] = list(subject.unable)
    if verification.rejected:
        facts["rejected-cases"] = verification.rejected
    if verification.relaxed:
        facts["relaxed-cases"] = verification.relaxed
        facts["relaxed-because"] = f"kernels of {verification.device} do not repeat themselves on these cases, with no optimizer at all"
    if subject.rounding is not None:
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
    return Finding(subject_row, cases, scripts)
