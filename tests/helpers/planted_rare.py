"""Planted bugs that few programs show, or that A and B have alike."""

from __future__ import annotations

from tests.helpers.broken_rarely import (
    DecaysWhatWasAddedFrozen,
    DrawsInOrderOfSet,
    NeverTrainsWhatWasAddedFrozen,
    PullsEveryFifth,
    PullsEverySixth,
    PullsEveryTenth,
    ScalesLastOfSet,
    ScalesWhatIsAddedFrozen,
    SumsInOrderOfSet,
    ThawsWhatWasAddedFrozen,
)
from tests.helpers.planted import HARD, Planted

RARE_BUGS = (
    Planted("freeze-midway-holds", PullsEveryFifth, HARD, smallest=(1, 5)),
    Planted("freeze-midway-holds", PullsEverySixth, HARD, smallest=(1, 6)),
    Planted("freeze-midway-holds", PullsEveryTenth, HARD, smallest=(1, 10)),
    Planted("frozen-weights-unchanged", ScalesWhatIsAddedFrozen, HARD, smallest=(1, 1)),
    Planted("frozen-weights-unchanged", DecaysWhatWasAddedFrozen, HARD, smallest=(1, 2)),
    Planted("flags-untouched", ThawsWhatWasAddedFrozen, HARD, smallest=(1, 2)),
    Planted("thaw-resumes", NeverTrainsWhatWasAddedFrozen, HARD, smallest=(1, 2)),
    Planted("repeats-itself", DrawsInOrderOfSet, HARD),
    Planted("repeats-itself", ScalesLastOfSet, HARD),
    Planted("repeats-itself", SumsInOrderOfSet, HARD),
)
"""Each with the layers and events of the smallest case that shows it."""
