"""The atlas in Markdown: what each way entails, and which ways are equal, for which optimizer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from frostproof.applications.atlas.classes import (
    APPEARANCES,
    WayNames,
    cells_by_cause,
    classes_by_target,
    smallest_example,
    worst_verdicts,
)
from frostproof.applications.atlas.record import Atlas, WayRecord
from frostproof.applications.atlas.traits import TRAITS
from frostproof.report.markdown import code_span, paragraph

ATLAS_HEAD = """\
# The atlas of freezing

Which ways to freeze the same layers train to the same bits? Each random network, with a random
mask, hyperparameters and program, is trained in every way that can freeze it, from the same seeds
and on the same batches. The mask never changes during a training, at least one parameter is frozen,
and at least one trains. This command writes the page:

    frostproof atlas --markdown docs/atlas.md

`--html FILE` writes a page with a matrix for each optimizer and network family, and `--cases
FOLDER` writes a script for every difference.
"""


def atlas_markdown(atlas: Atlas) -> str:
    """The whole document."""
    lines = [ATLAS_HEAD, *_numbers(atlas), *_ways(atlas), *_matrix(atlas), *_optimizers(atlas)]
    return "\n".join([*lines, *_causes(atlas)]) + "\n"


def atlas_totals(atlas: Atlas) -> str:
    """The size of the atlas, and how many of its pairs differ, in one line."""
    counts = {
        verdict: sum(cell.verdict == verdict for cell in atlas.cells) for verdict in APPEARANCES
    }
    compared = sum(cell.compared for cell in atlas.cells)
    optimizers = len({cell.target for cell in atlas.cells})
    return (
        f"{optimizers} optimizers, {len(atlas.cells):,} pairs of ways by optimizer and network "
        f"family, {compared:,} comparisons, {atlas.seconds:.0f} s: {counts['different']:,} pairs "
        f"differ, and {counts['doubtful']:,} are doubtful"
    )


def _numbers(atlas: Atlas) -> Iterator[str]:
    run = f"torch {atlas.environment.torch}, seed {atlas.environment.seed}"
    yield paragraph(f"{run}: {atlas_totals(atlas)}.")
    yield ""
    yield paragraph(
        "Every difference was shown again by its script, in a process of its own, with torch and "
        "the optimizer's library alone. A pair is doubtful if its script does not show the "
        "difference."
    )
    for lost in atlas.lost:
        yield ""
        yield paragraph(f"{code_span(lost.target)} is not included: {lost.reason}.")
    yield ""


def _ways(atlas: Atlas) -> Iterator[str]:
    yield "## The ways, and what each entails"
    yield ""
    yield paragraph(
        "Observed in one step of AdamW with weight decay, on a network of three layers, of which "
        "only the last trains."
    )
    yield ""
    yield f"| way | what you do | {' | '.join(TRAITS.values())} |"
    yield "| --- | --- |" + " --- |" * len(TRAITS)
    for way in atlas.ways:
        words = trait_words(way)
        if "raises" in way.traits:
            words[1] = f"raises: {way.traits['raises']}"
        yield f"| {code_span(way.name)} | {way.does} | {' | '.join(words)} |"
    yield ""


def trait_words(way: WayRecord) -> list[str]:
    """Whether each of TRAITS was observed: yes, no, or "" if the way raised an error before."""
    return [
        "" if name not in way.traits else "yes" if way.traits[name] else "no" for name in TRAITS
    ]


def _matrix(atlas: Atlas) -> Iterator[str]:
    names = [way.name for way in atlas.ways]
    verdicts = worst_verdicts(atlas.cells)
    numbers: dict[WayNames, list[int]] = defaultdict(list)
    for number, (_, cells) in enumerate(cells_by_cause(atlas.cells), 1):
        for pair in worst_verdicts(cells):
            numbers[pair].append(number)
    yield "## Every way against every other"
    yield ""
    yield paragraph(
        "Over all optimizers and families: `=` the same bits in every case, `≈` rounding at most, "
        "`?` doubtful, `≠` different in at least one case, with the numbers of the causes below."
    )
    yield ""
    yield f"| | {' | '.join(map(code_span, names))} |"
    yield "| --- |" + " --- |" * len(names)
    for row in names:
        pairs = [frozenset((row, other)) for other in names]
        signs = [[APPEARANCES[verdicts.get(pair)].sign, *map(str, numbers[pair])] for pair in pairs]
        yield f"| {code_span(row)} | {' | '.join(' '.join(sign).strip() for sign in signs)} |"
    yield ""


def _optimizers(atlas: Atlas) -> Iterator[str]:
    yield "## By optimizer"
    yield ""
    yield paragraph(
        "Ways inside the same braces gave the same results up to rounding, in every network family "
        "that both can freeze. Ways that are not listed cannot freeze with that optimizer."
    )
    yield ""
    yield "| optimizer | classes of ways |"
    yield "| --- | --- |"
    for target, groups in classes_by_target([way.name for way in atlas.ways], atlas.cells):
        yield f"| {code_span(target)} | {groups} |"
    yield ""


def _causes(atlas: Atlas) -> Iterator[str]:
    yield "## Why they differ"
    for number, (cause, cells) in enumerate(cells_by_cause(atlas.cells), 1):
        example = smallest_example(cells)
        targets = dict.fromkeys(cell.target.partition(":")[2] for cell in cells)
        families = dict.fromkeys(cell.family for cell in cells)
        yield from ("", f"### {number}. {cause}", "")
        yield paragraph(
            f"{len(cells):,} pairs. Optimizers: {', '.join(targets)}. "
            f"Networks: {', '.join(families)}. "
            f"The smallest case, with {code_span(example.target)} and a network of the family "
            f"{example.family}: {code_span(example.message or '')}."
        )
