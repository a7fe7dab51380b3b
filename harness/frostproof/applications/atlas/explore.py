"""One optimizer's part of the atlas.

Random cases of each network family are trained under every way to freeze. For each pair of ways
that differ, the smallest case that shows the difference is found.
"""

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

from frostproof.applications.atlas.cases import STEP_KINDS, family_cases, trainable_families
from frostproof.applications.atlas.comparison import (
    TrialDifference,
    compare_trials,
    reproduce_difference,
    train_one_way,
)
from frostproof.applications.atlas.families import FAMILIES
from frostproof.applications.atlas.record import AtlasCell, Sameness
from frostproof.approaches.approach import Approach, Approaches
from frostproof.approaches.others import WAYS
from frostproof.counterexamples.script import script
from frostproof.errors import UnprintableError
from frostproof.generation.draws import drawn_by_seed_alone
from frostproof.optimizers.probe import probe
from frostproof.process.fence import fenced
from frostproof.spec.case import Case
from frostproof.spec.subject import Subject
from frostproof.training.observation import Trial

SHRINKING_TRIALS = 16
"""The most cases that are trained to find and shrink one difference."""

_SETTINGS = settings(deadline=None, database=None, report_multiple_bugs=False)

WayPlaces = tuple[int, int]
"""The positions of two ways in WAYS, in ascending order."""


@dataclass
class PairTally:
    """What is known of two ways in one network family."""

    compared: int = 0
    """Cases that both ways could freeze."""
    different: int = 0
    """Cases in which they trained differently; `case` is the smallest of them."""
    ulp: float = 0.0
    """The largest difference that was due to rounding."""
    case: Case | None = None
    difference: TrialDifference | None = None


@dataclass
class RegionSearch:
    """The search in one network family for one optimizer."""

    subject: Subject
    family: str
    device: str
    ways: Sequence[Approach] = WAYS
    tallies: dict[WayPlaces, PairTally] = field(default_factory=dict)

    def survey(self, case: Case, which: Iterable[int] | None = None) -> set[WayPlaces]:
        """Train the case in these ways, or in all, as far as they can freeze it.

        Return the pairs that differ by more than rounding.
        """
        candidates = range(len(self.ways)) if which is None else which
        fit = [i for i in candidates if not self.ways[i].unfit(case, self.subject)]
        trials = {i: train_one_way(case, self.subject, self.ways[i], self.device) for i in fit}
        return {pair for pair in combinations(fit, 2) if self._differ(pair, case, trials)}

    def _differ(self, pair: WayPlaces, case: Case, trials: dict[int, Trial]) -> bool:
        tally = self.tallies.setdefault(pair, PairTally())
        tally.compared += 1
        found = compare_trials(trials[pair[0]], trials[pair[1]])
        if found is None:
            return False
        if found.ulp is not None:
            tally.ulp = max(tally.ulp, found.ulp)
            return False
        tally.different += 1
        if tally.case is None or case.size < tally.case.size:
            tally.case, tally.difference = case, found
        return True


def explore_optimizer(
    subject: Subject, device: str, examples: int, seed: int, families: Collection[str] = ()
) -> list[AtlasCell]:
    """One optimizer's cells, in these network families or in all. No script has been run yet.

    Raises UnusableError if the optimizer cannot be run.
    """
    found = []
    with fenced(device, fused_attention=True), drawn_by_seed_alone():
        subject = probe(subject, device)
        for family in trainable_families(subject):
            if family in (families or FAMILIES):
                region = RegionSearch(subject, family, device)
                _search(region, examples, seed)
                tallies = sorted(region.tallies.items())
                found += [_cell(region, pair, tally) for pair, tally in tallies]
    return found


def _search(region: RegionSearch, examples: int, seed: int) -> None:
    """Survey random cases that end with each kind of step. Then shrink the differences."""
    # A few random cases would miss some kinds of steps. The first of each kind is the simplest.
    for step in STEP_KINDS:

        @hypothesis.seed(seed)
        @settings(
            _SETTINGS, max_examples=max(2, examples // len(STEP_KINDS)), phases=(Phase.generate,)
        )
        @given(family_cases(region.subject, region.family, st.just(step)))
        def look(case: Case) -> None:
            region.survey(case)

        look()
    # A case that was shrunk for one pair is surveyed in all ways, and may settle other pairs too.
    shrunk: set[WayPlaces] = set()
    differing = [pair for pair, tally in sorted(region.tallies.items()) if tally.different]
    for pair in differing:
        if pair not in shrunk and not _is_small(region.tallies[pair].case):
            smallest = _smallest_case(region, pair, seed)
            shrunk |= {pair, *(region.survey(smallest) if smallest is not None else ())}


def _is_small(case: Case | None) -> bool:
    """Whether shrinking is not worth its time: at most two layers and two steps."""
    return case is not None and len(case.architecture.places) <= 2 and len(case.program) <= 2


class _EnoughError(BaseException):
    """Ends a search, which Hypothesis itself would end only after hundreds of cases.

    It is not an Exception, so that no handler of a test catches it.
    """


def _smallest_case(region: RegionSearch, pair: WayPlaces, seed: int) -> Case | None:
    """The smallest case that Hypothesis finds in which two ways differ.

    None if it finds no case while it trains at most SHRINKING_TRIALS cases.
    """
    known: dict[Case, bool] = {}

    def differ(case: Case) -> bool:
        if case not in known:
            if len(known) == SHRINKING_TRIALS:
                raise _EnoughError
            known[case] = pair in region.survey(case, pair)
        return known[case]

    limit = settings(_SETTINGS, max_examples=SHRINKING_TRIALS)
    cases = family_cases(region.subject, region.family)
    with suppress(NoSuchExample, _EnoughError):
        hypothesis.find(cases, differ, settings=limit, random=random.Random(seed))
    found = (case for case, differs in known.items() if differs)
    return min(found, key=lambda case: case.size, default=None)


def _cell(region: RegionSearch, pair: WayPlaces, tally: PairTally) -> AtlasCell:
    left, right = (region.ways[i] for i in pair)
    verdict: Sameness = (
        "different" if tally.different else "rounding" if tally.ulp else "equivalent"
    )
    cell = AtlasCell(
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
        found = reproduce_difference(tally.case, region.subject, region.device, left, right)
        text = script(found, region.subject, Approaches(a=left, b=right))
    except UnprintableError as unprintable:
        return cell.replaced(verdict="doubtful", doubt=str(unprintable))
    return cell.replaced(script=text)
