"""The report of one test item, which a worker sends to the process that reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from frostproof.errors import one_line
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.registry import INVARIANTS
from frostproof.results.rows import Facts, InvariantRow, RowStatus, Status, SubjectRow, add_seconds
from frostproof.spec.case import Case
from frostproof.spec.casefile import CaseFile
from frostproof.spec.ids import directness
from frostproof.spec.subject import Subject, drawn_names, given_arguments

if TYPE_CHECKING:
    from frostproof.verification.reproduction import Reproduction
    from frostproof.verification.tally import Tally
    from frostproof.verification.verification import Verification

ORDER_HINT = (
    "its updates depend on the order or the grouping of its parameters with nothing frozen too: "
    "if that is by design, state the reason as `positional` in a Subject"
)
SET_ASIDE = "comparisons were set aside, because two runs with one seed differ"
BUILT_ANEW = "no group is added, as an optimizer of this kind is built anew for each mask"
DOUBTFUL_HINT = "the fault may be frostproof's, so please open an issue with the case file"


class ItemReport(msgspec.Struct):
    """The row of a subject, and what is known of its violations, by the ids of the invariants."""

    row: SubjectRow

    cases: dict[str, Case]
    """The smallest cases."""

    scripts: dict[str, str] = {}
    """Their scripts."""

    sizes: dict[str, tuple[int, ...]] = {}
    """Their sizes, to compare them with those of other items."""

    places: dict[str, tuple[int, tuple[int, ...]]] = {}
    """The number of the event, and the positions of the parameters, at which each shows."""

    arguments: str = ""
    """The constructor arguments that the optimizer was given, for people."""

    def case_file(self, broken: InvariantRow, way: str | None) -> CaseFile | None:
        """The counterexample of a violation, to be saved; None if there is no case.

        `way` is `module:name` of the user's own way to freeze.
        """
        if broken.id not in self.cases:
            return None
        event, parameters = self.places.get(broken.id, (None, ()))
        return CaseFile(
            target=self.row.target,
            variant=self.row.variant,
            device=self.row.device,
            invariant=broken.id,
            message=broken.message,
            case=self.cases[broken.id],
            event=event,
            parameters=parameters,
            way=way or "",
            arguments=self.arguments,
            expected=(broken.expected_reason or "") if broken.status == "expected" else "",
        )


def usage(subject: Subject) -> str:
    """How the optimizer is used, as the probe found, in one line."""
    parts = [
        f"takes {subject.takes}" + ("" if subject.keys is None else " with keys of their own"),
        *([f"given {given_arguments(subject)}"] if subject.arguments else []),
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
    from frostproof.optimizers.discovery import never_drawn  # which imports torch

    kept = never_drawn(subject)
    left = f", and not {', '.join(kept)}" if kept else ""
    return (", ".join(drawn_names(subject)) or "no hyperparameters") + left


def item_report(
    verification: Verification, reproduced: Mapping[str, Reproduction] | None = None
) -> ItemReport:
    """What was found so far. A violation is doubtful if its script does not show it."""
    reproduced = reproduced or {}
    rows = [
        _classified(verification, invariant, row)
        for invariant in INVARIANTS
        if (row := _row_of(verification, invariant)) is not None
    ]
    rows = [add_reproduction(row, reproduced.get(row.id)) for row in rows]
    cases = {row.id: case for row in rows if (case := _case_of(verification, row)) is not None}
    scripts = {
        row.id: script.text
        for row in rows
        if (script := reproduced.get(row.id)) is not None and script.text is not None
    }
    sizes = {identity: case.size for identity, case in cases.items()}
    shown = {identity: verification.tallies[identity].shown for identity in cases}
    places = {
        identity: (each.breach.event, each.breach.parameters)
        for identity, each in shown.items()
        if each is not None
    }
    arguments = given_arguments(verification.subject)
    return ItemReport(_subject_row(verification, rows), cases, scripts, sizes, places, arguments)


ENOUGH = 50
"""Trials that must have judged an expected failure before it is called stale, unless most did."""


def invariant_row(
    invariant: Invariant,
    tally: Tally,
    severity: str,
    *,
    expected: str | None = None,
    searched_alone: bool = False,
    cut_short: str = "",
    trials: int = 0,
) -> InvariantRow:
    """The row of an invariant.

    `expected` is the reason why it is expected to fail, and `searched_alone` tells whether this was
    the search for that failure. `cut_short` is the reason why it was cut short. `trials`: how many
    there were, of which it may have judged a few only.
    """
    few = searched_alone and tally.judged < min(ENOUGH, trials / 2)
    message = tally.message or None
    if tally.violated and expected is not None:
        message = f"expected: {expected}; {tally.message}"
    elif searched_alone:
        found = f"held in {tally.judged} trials: drop the expectation"
        if few:
            found = (
                f"not seen in the {tally.judged} of {trials} trials that could judge it: state one "
                "of its cases in known_cases, or drop the expectation"
            )
        if not tally.judged:
            found = "no trial could judge it: try more examples, or drop the expectation"
        if cut_short:
            found = f"not seen in {tally.judged} trials, after which its search ended: {cut_short}"
        message = f"expected to fail ({expected}), but {found}"
    status = _status(
        tally,
        expected=expected is not None,
        searched_alone=searched_alone,
        cut_short=bool(cut_short) or few,
    )
    return InvariantRow(
        invariant.id,
        status,
        severity,
        tally.judged,
        tally.violated,
        message,
        expected_reason=expected,
        explained=dict(tally.explained),
    )


def _status(tally: Tally, *, expected: bool, searched_alone: bool, cut_short: bool) -> RowStatus:
    if tally.violated:
        return "expected" if expected else "violated"
    if not tally.judged or (searched_alone and cut_short):
        return "unreached"
    return "violated" if searched_alone else "held"


def add_reproduction(row: InvariantRow, script: Reproduction | None) -> InvariantRow:
    """Add to the row of a violation what its script showed. Returns the row."""
    if script is None:
        return row
    if script.doubtful:
        row.status = "doubtful"
        said = f"its script does not show it: {one_line(script.said)}; {DOUBTFUL_HINT}"
        row.message = f"{row.message} (doubtful: {said})"
    elif script.text is None:
        row.message = f"{row.message} (no standalone script: {script.said})"
    return row


def doubt_message(rows: Sequence[InvariantRow]) -> str:
    """One line for a test that fails for doubtful rows only: the first, and the ids of others."""
    first, *others = sorted(rows, key=lambda row: directness(row.id))
    too = f"; doubtful too: {', '.join(row.id for row in others)}" if others else ""
    return one_line(f"{first.id} is doubtful: {first.message}", 1000) + too


def subject_status(rows: Iterable[InvariantRow], reason: str | None, *, strict: bool) -> Status:
    """The worst status; `reason`: why the subject cannot be judged. Costs count only if strict."""
    if reason is not None:
        return "unusable"
    found = {row.status for row in rows if row.is_grave(strict=strict)}
    return "violated" if "violated" in found else "doubtful" if "doubtful" in found else "held"


def _row_of(verification: Verification, invariant: Invariant) -> InvariantRow | None:
    """The row of an invariant; None if it belongs to another search or another kind of subject."""
    subject, tally = verification.subject, verification.tallies.get(invariant.id)
    if tally is None or verification.unusable_reason is not None:
        reason = subject.setting.not_judged.get(invariant.id)
        known = (subject.factory is not None and invariant.applies_in is None) or reason is not None
        return (
            InvariantRow(invariant.id, "not-applicable", invariant.severity, message=reason)
            if known and verification.only_invariant is None
            else None
        )
    return invariant_row(
        invariant,
        tally,
        verification.severity(invariant),
        expected=subject.expected_failures.get(invariant.id),
        searched_alone=verification.only_invariant is not None,
        cut_short=verification.cut_short_reason,
        trials=verification.trials + verification.rejected_cases,
    )


def _classified(
    verification: Verification, invariant: Invariant, row: InvariantRow
) -> InvariantRow:
    """The row of a violation with what is wrong, where, and a hint if it is the order."""
    if row.violated:
        row.violation_class = invariant.violation_class
        row.source = verification.tallies[row.id].source or None
        if row.source is not None:
            row.message = f"{row.message}; by {row.source}"
        if switched := _switched(verification, row.id):
            row.message = f"{row.message}; with {', '.join(switched)}, which is not the default"
        if row.status in ("violated", "doubtful") and row.id not in verification.shrunk:
            row.message = f"{row.message}; not shrunk to the end"
        if row.status == "violated" and verification.tallies[row.id].by_order:
            row.message = f"{row.message}; {ORDER_HINT}"
            if invariant.violation_class == "freezing":
                row.violation_class = "groups"
    return row


def _switched(verification: Verification, identity: str) -> list[str]:
    """The switches that the case sets unlike their defaults, and that nobody asked for."""
    from frostproof.generation.hyperparameters import SINGLE

    subject, case = verification.subject, verification.tallies[identity].case
    if not subject.discovered or "space" in subject.stated or case is None:
        return []
    first = [pair for choice in subject.choices for pair in choice[0]]
    defaults = {n: v for n, v in first if isinstance(v, bool) and n not in SINGLE}
    options = dict.fromkeys(pair for group in case.groups for pair in group.options)
    return [f"{name}={value}" for name, value in options if defaults.get(name, value) != value]


def _case_of(verification: Verification, row: InvariantRow) -> Case | None:
    """The case of a violation, unless it has a search of its own, which finds a smaller one."""
    return (
        verification.tallies[row.id].case
        if row.violated and not verification.has_own_search(row.id)
        else None
    )


def _subject_row(verification: Verification, rows: list[InvariantRow]) -> SubjectRow:
    subject, reason = verification.subject, verification.unusable_reason
    judgements = sum(row.judged for row in rows)
    if reason is None and not judgements and verification.only_invariant is None:
        parts = ("no case could be judged", verification.rejection_reason)
        reason = verification.cut_short_reason or ": ".join(filter(None, parts))
    return SubjectRow(
        subject.target,
        subject.label,
        verification.device,
        subject.version,
        subject_status(rows, reason, strict=verification.strict),
        reason,
        verification.trials,
        judgements,
        round(verification.seconds, 3),
        _facts_of(verification),
        rows,
        phases=add_seconds([verification.phases]),
    )


def _facts_of(verification: Verification) -> Facts:
    subject = verification.subject
    facts: Facts = {}
    if verification.approaches.way is not None:
        facts["way"] = verification.approaches.way.name
    usable = verification.unusable_reason is None
    if usable and subject.factory is not None:
        facts["used-as"] = usage(subject)
        from frostproof.optimizers.discovery import never_drawn  # which imports torch

        if subject.discovered and drawn_names(subject) and (kept := never_drawn(subject)):
            facts["not-drawn"] = kept
    if verification.moves_on_zero_grad is not None:
        facts["moves-on-zero-grad"] = verification.moves_on_zero_grad
    if verification.divergence_counts:
        facts["partings"] = dict(sorted(verification.divergence_counts.items()))
    if subject.coupled is not None:
        facts["not-as-alone"] = subject.coupled
    if subject.unable:
        facts["unable"] = list(subject.unable)
    set_aside = (
        [f"{SET_ASIDE}: {', '.join(verification.set_aside)}"] if verification.set_aside else []
    )
    anew = [BUILT_ANEW] if usable and not subject.per_parameter else []
    if subject.not_tried or anew or set_aside:
        facts["not-tried"] = [*subject.not_tried, *anew, *set_aside]
    if verification.raised_unfrozen:
        facts["raises"] = [verification.raised_unfrozen]
    if verification.raised_without:
        facts["raises-without-optimizer"] = [verification.raised_without]
    if verification.cut_short_reason:
        facts["cut-short"] = verification.cut_short_reason
    if verification.rejected_cases:
        facts["rejected-cases"] = verification.rejected_cases
    if verification.depends_on_order:
        facts["depends-on-order"] = True
    if subject.rounding is not None or verification.largest_rounding:
        facts["rounding-ulp"] = verification.largest_rounding
    return facts
