"""One optimizer through the atlas: random cases of each family under every way to freeze, and the smallest where two of them part."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations

import hypothesis
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from frostproof.applications.atlas.comparison import (
    Difference,
    difference,
    difference_shown,
    trained,
)
from frostproof.applications.atlas.families import FAMILIES, STEPS, cases, families_of
from frostproof.applications.atlas.record import Cell, Sameness
from frostproof.approaches.approach import Approach, Approaches
from frostproof.approaches.others import WAYS
from frostproof.counterexamples.script import script
from frostproof.errors import UnprintableError
from frostproof.optimizers.probe import probe
from frostproof.process.fence import fenced
from frostproof.spec.case import Case
from frostproof.spec.subject import Subject
from frostproof.training.observation import Trial

TRIES = 16
"""Cases that are trained at most to find and shrink one difference."""

_SETTINGS = settings(deadline=None, database=None, report_multiple_bugs=False)

Pair = tuple[int, int]
"""Two ways, by their places in WAYS, the first before the second."""


@dataclass
class Tally:
    """Two ways in one family: how many cases both could freeze, in how many they trained otherwise, and the smallest of these;
    `ulp`: the largest difference that was rounding."""

    compared: int = 0
    different: int = 0
    ulp: float = 0.0
    case: Case | None = None
    difference: Difference | None = None


@dataclass
class Region:
    """A family of networks for one optimizer, with what is known of each pair of ways."""

    subject: Subject
    family: str
    device: str
    ways: Sequence[Approach] = WAYS
    tallies: dict[Pair, Tally] = field(default_factory=dict)

    def survey(self, case: Case, which: Iterable[int] | None = None) -> set[Pair]:
        """Train the case in these ways, or in all that can freeze it; the pairs that differ by more than rounding."""
        fit = [
            i
            for i in (range(len(self.ways)) if which is None else which)
            if not self.ways[i].unfit(case, self.subject)
        ]
        trials = {i: trained(case, self.subject, self.ways[i], self.device) for i in fit}
        return {pair for pair in combinations(fit, 2) if self._compared(pair, case, trials)}

    def _compared(self, pair: Pair, case: Case, trials: dict[int, Trial]) -> bool:
        tally = self.tallies.setdefault(pair, Tally())
        tally.compared += 1
        found = difference(trials[pair[0]], trials[pair[1]])
        if found is None:
            return False
        if found.ulp is not None:
            tally.ulp = max(tally.ulp, found.ulp)
            return False
        tally.different += 1
        if tally.case is None or case.size < tally.case.size:
            tally.case, tally.difference = case, found
        return True


def explored(
    subject: Subject, device: str, examples: int, seed: int, families: Collection[str] = ()
) -> list[Cell]:
    """Every cell of one optimizer's part of the atlas, in these families of networks, or in all; no script has been run yet.
    Raises UnusableError where it cannot be run."""
    found = []
    with fenced(device, fused_attention=True):
        subject = probe(subject, device)
        for family in [each for each in families_of(subject) if each in (families or FAMILIES)]:
            region = Region(subject, family, device)
            _search(region, examples, seed)
            found += [_cell(region, pair, tally) for pair, tally in sorted(region.tallies.items())]
    return found


def _search(region: Region, examples: int, seed: int) -> None:
    """Survey random cases that end with each kind of step; then find the smallest in which ways part, for one pair after another
    until each has been shrunk, or parts in a case that another pair has led to."""
    # Some of each kind, as few cases drawn at random would leave out what tells two ways apart. The first is always the simplest.
    for step in STEPS:

        @hypothesis.seed(seed)
        @settings(_SETTINGS, max_examples=max(2, examples // len(STEPS)), phases=(Phase.generate,))
        @given(cases(region.subject, region.family, st.just(step)))
        def look(case: Case) -> None:
            region.survey(case)

        look()
    shrunk: set[Pair] = set()
    parted = [pair for pair, tally in sorted(region.tallies.items()) if tally.different]
    for pair in parted:
        if pair not in shrunk and not _small(region.tallies[pair].case):
            smallest = _smallest(region, pair, seed)
            shrunk |= {pair, *(region.survey(smallest) if smallest is not None else ())}


def _small(case: Case | None) -> bool:
    """Whether there is nothing to gain from shrinking: two layers, of which one is frozen, and two steps."""
    return case is not None and len(case.architecture.places) <= 2 and len(case.program) <= 2


class _EnoughError(BaseException):
    """Ends a search, as Hypothesis would by itself only after hundreds of cases. It passes whatever catches an Exception."""


def _smallest(region: Region, pair: Pair, seed: int) -> Case | None:
    """The smallest case that Hypothesis finds in which two ways part, training at most TRIES; None where it finds none."""
    known: dict[Case, bool] = {}

    def parts(case: Case) -> bool:
        if case not in known:
            if len(known) == TRIES:
                raise _EnoughError
            known[case] = pair in region.survey(case, pair)
        return known[case]

    limit = settings(_SETTINGS, max_examples=TRIES)
    with suppress(NoSuchExample, _EnoughError):
        hypothesis.find(
            cases(region.subject, region.family), parts, settings=limit, random=random.Random(seed)
        )
    return min(
        (case for case, differs in known.items() if differs),
        key=lambda case: case.size,
        default=None,
    )


def _cell(region: Region, pair: Pair, tally: Tally) -> Cell:
    left, right = (region.ways[i] for i in pair)
    verdict: Sameness = (
        "different" if tally.different else "rounding" if tally.ulp else "equivalent"
    )
    cell = Cell(
        region.subject.target,
        region.subject.variant,
        region.family,
        left.name,
        right.name,
        verdict,
        tally.compared,
        tally.different,
        tally.ulp,
    )
    if tally.case is None or tally.difference is None:
        return cell
    cell = cell.replaced(
        cause=tally.difference.cause, message=tally.difference.message, case=tally.case
    )
    try:
        found = difference_shown(tally.case, region.subject, region.device, left, right)
        text = script(found, region.subject, Approaches(a=left, b=right))
    except UnprintableError as unprintable:
        return cell.replaced(verdict="doubtful", doubt=str(unprintable))
    return cell.replaced(script=text)
