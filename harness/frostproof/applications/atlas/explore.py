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
    TrialDifference,
    compare_trials,
    reproduce_difference,
    train_one_way,
)
from frostproof.applications.atlas.families import (
    FAMILIES,
    STEP_KINDS,
    family_cases,
    trainable_families,
)
from frostproof.applications.atlas.record import AtlasCell, Sameness
from frostproof.approaches.approach import Approach, Approaches
from frostproof.approaches.others import WAYS
from frostproof.counterexamples.script import script
from frostproof.optimizers.probe import probe
from frostproof.process.fence import fenced
from frostproof.spec.case import Case
from frostproof.spec.subject import Subject
from frostproof.training.naming import Unprintable
from frostproof.training.observation import Trial

TRIES = 16
"""Cases that are trained at most to find and shrink one difference."""

_SETTINGS = settings(deadline=None, database=None, report_multiple_bugs=False)

WayPlaces = tuple[int, int]
"""Two ways, by their places in WAYS, the first before the second."""


@dataclass
class PairTally:
    """Two ways in one family: how many cases both could freeze, in how many they trained otherwise, and the smallest of these;
    `ulp`: the largest difference that was rounding."""

    compared: int = 0
    different: int = 0
    ulp: float = 0.0
    case: Case | None = None
    difference: TrialDifference | None = None


@dataclass
class RegionSearch:
    """A family of networks for one optimizer, with what is known of each pair of ways."""

    subject: Subject
    family: str
    device: str
    ways: Sequence[Approach] = WAYS
    tallies: dict[WayPlaces, PairTally] = field(default_factory=dict)

    def survey(self, case: Case, which: Iterable[int] | None = None) -> set[WayPlaces]:
        """Train the case in these ways, or in all that can freeze it; the pairs that differ by more than rounding."""
        fit = [
            i
            for i in (range(len(self.ways)) if which is None else which)
            if not self.ways[i].unfit(case, self.subject)
        ]
        trials = {i: train_one_way(case, self.subject, self.ways[i], self.device) for i in fit}
        return {pair for pair in combinations(fit, 2) if self._compared(pair, case, trials)}

    def _compared(self, pair: WayPlaces, case: Case, trials: dict[int, Trial]) -> bool:
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
    """Every cell of one optimizer's part of the atlas, in these families of networks, or in all; no script has been run yet.
    Raises Unusable where it cannot be run."""
    found = []
    with fenced(device, fused_attention=True):
        subject = probe(subject, device)
        for family in [
            each for each in trainable_families(subject) if each in (families or FAMILIES)
        ]:
            region = RegionSearch(subject, family, device)
            _search(region, examples, seed)
            found += [_cell(region, pair, tally) for pair, tally in sorted(region.tallies.items())]
    return found


def _search(region: RegionSearch, examples: int, seed: int) -> None:
    """Survey random cases that end with each kind of step; then find the smallest in which ways part, for one pair after another
    until each has been shrunk, or parts in a case that another pair has led to."""
    # Some of each kind, as few cases drawn at random would leave out what tells two ways apart. The first is always the simplest.
    for step in STEP_KINDS:

        @hypothesis.seed(seed)
        @settings(
            _SETTINGS, max_examples=max(2, examples // len(STEP_KINDS)), phases=(Phase.generate,)
        )
        @given(family_cases(region.subject, region.family, st.just(step)))
        def look(case: Case) -> None:
            region.survey(case)

        look()
    shrunk: set[WayPlaces] = set()
    parted = [pair for pair, tally in sorted(region.tallies.items()) if tally.different]
    for pair in parted:
        if pair not in shrunk and not _small(region.tallies[pair].case):
            smallest = _smallest(region, pair, seed)
            shrunk |= {pair, *(region.survey(smallest) if smallest is not None else ())}


def _small(case: Case | None) -> bool:
    """Whether there is nothing to gain from shrinking: two layers, of which one is frozen, and two steps."""
    return case is not None and len(case.architecture.places) <= 2 and len(case.program) <= 2


class EnoughError(BaseException):
    """Ends a search, as Hypothesis would by itself only after hundreds of cases. It passes whatever catches an Exception."""


def _smallest(region: RegionSearch, pair: WayPlaces, seed: int) -> Case | None:
    """The smallest case that Hypothesis finds in which two ways part, training at most TRIES; None where it finds none."""
    known: dict[Case, bool] = {}

    def parts(case: Case) -> bool:
        if case not in known:
            if len(known) == TRIES:
                raise EnoughError
            known[case] = pair in region.survey(case, pair)
        return known[case]

    limit = settings(_SETTINGS, max_examples=TRIES)
    with suppress(NoSuchExample, EnoughError):
        hypothesis.find(
            family_cases(region.subject, region.family),
            parts,
            settings=limit,
            random=random.Random(seed),
        )
    return min(
        (case for case, differs in known.items() if differs),
        key=lambda case: case.size,
        default=None,
    )


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
    except Unprintable as unprintable:
        return cell.replaced(verdict="doubtful", doubt=str(unprintable))
    return cell.replaced(script=text)
