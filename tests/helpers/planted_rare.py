"""Planted bugs that few programs show, or that A and B have alike."""

from __future__ import annotations

from tests.helpers.broken_rarely import (
    AveragesWhatRequiresGrad,
    CorrectsByFirst,
    DecaysWhatWasAddedFrozen,
    DrawsInOrderOfSet,
    NeverTrainsWhatWasAddedFrozen,
    PullsEveryFifth,
    PullsEverySixth,
    PullsEveryTenth,
    PutsBackTheFirst,
    PutsFirstBiasesBack,
    ScalesLastOfSet,
    ScalesWhatIsAddedFrozen,
    StepsInHooksAndDecays,
    SumsInOrderOfSet,
    ThawsWhatWasAddedFrozen,
)
from tests.helpers.broken_together import (
    BuffersByShape,
    CachesRateByDtype,
    CountOfFirst,
    CountsEachGroup,
    CountsWithAnyGradient,
    DecaysFromThenOn,
    ScalesFromFifth,
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
    Planted("frozen-weights-unchanged", PutsFirstBiasesBack, HARD, smallest=(1, 2)),
    Planted("frozen-weights-unchanged", PutsBackTheFirst, HARD, smallest=(1, 2)),
    Planted("trainable-updates-match", CorrectsByFirst, HARD, smallest=(1, 2)),
    Planted("group-added-trains", AveragesWhatRequiresGrad, HARD, smallest=(1, 2)),
    Planted("freeze-midway-holds", StepsInHooksAndDecays, HARD, smallest=(1, 2)),
    Planted("repeats-itself", DrawsInOrderOfSet, HARD),
    Planted("repeats-itself", ScalesLastOfSet, HARD),
    Planted("repeats-itself", SumsInOrderOfSet, HARD),
    Planted("trains-as-alone", CountsEachGroup, smallest=(1, 1)),
    Planted("trains-as-alone", CachesRateByDtype, HARD, smallest=(1, 1)),
    Planted("trains-as-alone", DecaysFromThenOn, HARD, smallest=(1, 1)),
    Planted("trains-as-alone", BuffersByShape, smallest=(1, 1)),
    Planted("trains-as-alone", CountsWithAnyGradient, HARD, smallest=(1, 3)),
    Planted("trains-as-alone", CountOfFirst, HARD, smallest=(1, 3)),
    Planted("trains-as-alone", ScalesFromFifth, smallest=(3, 1)),
)
"""Each with the layers and events of the smallest case that shows it."""
