"""Planted bugs in optimizers that are built and stepped in every way: each has a script that tells.

`python benchmarks/reproducers.py` runs the scripts of all combinations, each in its own process.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.combinations import (
    COMBINATIONS,
    EVERY,
    MEANINGLESS,
    PLANTED,
    Combination,
    covering,
    excluded,
)
from tests.helpers.protocols import PROTOCOLS
from tests.helpers.script_runs import corrected, run_here

SELECTED = covering(3)


@pytest.mark.parametrize("combination", SELECTED, ids=lambda combination: combination.id)
def test_a_script_exits_1_with_the_bug_and_0_with_a_correct_optimizer(
    combination: Combination, tmp_path: Path
) -> None:
    bug = combination.bug
    text = combination.script()
    assert text is not None, "the trial does not show the bug"
    path = tmp_path / "script.py"
    path.write_text(text)
    broken = run_here(path, bug.invariant)
    assert broken.reproduced, broken.said
    path.write_text(corrected(text, bug.approaches))
    assert run_here(path, bug.invariant).said == "it exits 0"


def test_every_bug_meets_three_protocols_and_every_protocol_three_bugs() -> None:
    bugs = Counter(f"{each.bug.invariant}-{each.bug.name}" for each in SELECTED)
    alone = {*MEANINGLESS[0].bugs}  # which are judged of autograd alone
    assert {*bugs} == {f"{bug.invariant}-{bug.name}" for bug in PLANTED} - alone
    assert set(bugs.values()) == {3}
    protocols = Counter(each.protocol for each in SELECTED)
    assert {*protocols} == {*PROTOCOLS}
    assert min(protocols.values()) >= 3


def test_each_combination_is_tried_or_has_one_reason_not_to_be() -> None:
    reasons = [excluded(each) for each in EVERY]
    assert max(map(len, reasons)) == 1
    counts = Counter(reason for found in reasons for reason in found)
    assert [counts[each.reason] for each in MEANINGLESS] == [
        len(each.protocols) * len(each.bugs) for each in MEANINGLESS
    ]
    assert (len(EVERY), len(COMBINATIONS), sum(counts.values())) == (1482, 1292, 190)
