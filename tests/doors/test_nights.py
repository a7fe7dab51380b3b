"""Each night tries new examples, failures of the last night first, and reports what has changed.

Shards split the examples of one subject.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from frostproof.doors.command.listener import Listener
from frostproof.results.baseline import comparison_lines, has_new_failure
from frostproof.results.rows import (
    Environment,
    InvariantRow,
    Results,
    SubjectRow,
    merge_rows,
    totals,
)
from frostproof.verification.profiles import batches, shards_for
from frostproof.verification.search import batch_seed
from tests.helpers import consumer
from tests.helpers.consumer import PLAIN, SHY

OWN = """

class Rare(Plain):
    # Drops the loss of its closure where its parameters are bfloat16.
    def step(self, closure=None):
        with Path("seen.txt").open("a") as file:
            parameters = [p for group in self.param_groups for p in group["params"]]
            print([tuple(p.shape) for p in parameters], file=file)
        loss = super().step(closure)
        return None if self.param_groups[0]["params"][0].dtype == torch.bfloat16 else loss
"""
MYLIB = PLAIN + OWN


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "mylib.py").write_text(MYLIB)
    return tmp_path


def check(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `check`; the examples that were seen are in seen.txt."""
    (project / "seen.txt").unlink(missing_ok=True)
    return consumer.check(project, *arguments, **variables)


def results(project: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((project / "out.json").read_text())["subjects"]
    return rows


def seen(project: Path) -> list[str]:
    return (project / "seen.txt").read_text().splitlines()


def test_two_nights_try_different_examples_and_the_second_begins_with_what_failed(
    project: Path,
) -> None:
    night = ("mylib:Rare", "--profile", "nightly", "--jobs", "0")
    first = check(project, *night, "--max-examples", "80", CI="true")
    assert first.returncode == 1, first.stdout
    assert "since the last results" not in first.stdout
    before, seeds = (
        seen(project),
        {json.loads((project / "out.json").read_text())["environment"]["seed"]},
    )
    second = check(project, *night, "--max-examples", "1", CI="true")
    assert second.returncode == 1, second.stdout
    assert re.search(
        r"since the last results: \d new, 0 fixed, [1-9] still violated", second.stdout
    ), second.stdout
    seeds.add(json.loads((project / "out.json").read_text())["environment"]["seed"])
    assert len(seeds) == 2
    # What the second night draws, where nothing is remembered:
    alone = check(
        project,
        *night,
        "--max-examples",
        "20",
        CI="true",
        HYPOTHESIS_STORAGE_DIRECTORY=str(project / "forgetful"),
    )
    assert alone.returncode in (0, 1)
    assert seen(project) != before[: len(seen(project))]


def test_the_same_seed_repeats_the_same_night(project: Path) -> None:
    found = []
    for _ in range(2):
        check(
            project,
            "mylib:Rare",
            "--profile",
            "nightly",
            "--max-examples",
            "30",
            "--seed",
            "7",
            "--jobs",
            "0",
        )
        rows = [{**row, "seconds": 0, "phases": {}} for row in results(project)]
        found.append((seen(project), rows))
        (
            project / "out.json"
        ).unlink()  # the results of the night before are read first, if there are any
    assert found[0] == found[1]


def test_shards_split_the_examples_and_add_up(project: Path) -> None:
    done = check(
        project,
        "mylib:Plain",
        "mylib:Rare",
        "--max-examples",
        "42",
        "--shards",
        "4",
        "--seed",
        "3",
        "--jobs",
        "2",
    )
    rows = {(row["target"], row["variant"]): row for row in results(project)}
    held = rows["mylib:Plain", "default"]
    assert held["trials"] == 42, done.stdout
    assert all(row["judged"] <= 42 for row in held["invariants"])
    assert held["judgements"] == sum(row["judged"] for row in held["invariants"])
    cases = [row["case"] for row in rows["mylib:Rare", "default"]["invariants"] if row["case"]]
    assert len(cases) == len(set(cases)) > 0
    assert done.stdout.count("\n    program: ") == 1, "shards show one counterexample"
    assert "FAILURES" not in done.stdout, "what the table says is said once"
    assert sorted(cases) == sorted(
        f"frostproof-cases/{path.name}"
        for path in (project / "frostproof-cases").glob("mylib_Rare*.json")
    )


def test_more_shards_than_examples_are_one_line(project: Path) -> None:
    done = check(project, "mylib:Rare", "--max-examples", "3", "--shards", "4")
    assert done.returncode == 2
    assert "shards is 4: give a number from 1 to the number of examples, 3" in done.stderr


def test_what_is_only_doubtful_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    """Spread over processes; in one: tests/verification/test_doubtful.py."""
    (tmp_path / "mylib.py").write_text(SHY)
    done = consumer.check(
        tmp_path, "mylib:Shy", "--max-examples", "20", "--seed", "1", "--jobs", "2"
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "1 subject (0 violated, 1 doubtful, 0 not judged)" in done.stdout
    (row,) = results(tmp_path)
    doubtful = [each for each in row["invariants"] if each["status"] == "doubtful"]
    assert doubtful
    assert all(
        (tmp_path / each[file]).is_file() for each in doubtful for file in ("case", "reproducer")
    )
    assert not any(each["status"] == "violated" for each in row["invariants"])
    assert "DOUBTFUL mylib:Shy on cpu: closure-is-honoured" in done.stdout
    assert "doubtful: its script does not show it: it exits 0" in doubtful[0]["message"]


def test_a_violation_beside_a_doubt_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "mylib.py").write_text(SHY)
    done = consumer.check(
        tmp_path, "mylib:Shy", "mylib:Deaf", "--max-examples", "20", "--seed", "1", "--jobs", "0"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 subjects (1 violated, 1 doubtful, 0 not judged)" in done.stdout


@pytest.mark.parametrize(
    ("code", "only_doubtful", "ours"),
    [(0, False, 0), (1, False, 1), (1, True, 4), (2, True, 130), (4, False, 2)],
)
def test_the_exit_code_of_pytest_becomes_ours(code: int, only_doubtful: bool, ours: int) -> None:
    listener = Listener()
    listener.only_doubtful = only_doubtful
    assert listener.exit_code(code) == ours


def test_each_batch_has_a_seed_of_its_own() -> None:
    seeds = [batch_seed(5, batch) for batch in range(64)]
    assert seeds[0] == 5
    assert len(set(seeds)) == len(seeds)
    assert seeds == [batch_seed(5, batch) for batch in range(64)]


@pytest.mark.parametrize("count", [1, 24, 25, 26, 100, 400, 4000, 4001, 100_000])
def test_a_split_changes_no_example(count: int) -> None:
    sizes = batches(count)
    assert sum(sizes) == count
    assert max(sizes) <= 2000
    assert all(batches(count, shards) == sizes for shards in range(1, len(sizes) + 1))


def test_idle_workers_get_shards() -> None:
    assert [shards_for(2, items, 100) for items in (1, 2, 3)] == [2, 1, 1]
    assert [shards_for(64, 1, count) for count in (10, 30, 100, 4000)] == [1, 2, 4, 16]
    assert shards_for(8, 3, 100) == 2


def row(status: str, *, severity: str = "wrong", trials: int = 10) -> SubjectRow:
    seen = status in ("violated", "doubtful")
    invariant = InvariantRow("thaw-resumes", status, severity, trials, int(seen), "m")  # type: ignore[arg-type]
    state: Any = status if seen else "held"
    return SubjectRow(
        "mylib:A", "default", "cpu", "1", state, None, trials, trials, 1.0, {}, [invariant]
    )


def of(*rows: SubjectRow) -> Results:
    return Results(
        Environment("0", "0", "0", "0", "0", ["cpu"], "dev", 0), list(rows), totals(list(rows), 1.0)
    )


def test_parts_of_one_subject_add_up() -> None:
    one, two = row("held", trials=3), row("violated", trials=4)
    one.facts = {
        "partings": {"clip": 1},
        "rejected-cases": 2,
        "rounding-ulp": 0.5,
        "depends-on-order": True,
        "not-tried": ["saving fails", "comparisons were set aside"],
    }
    two.facts = {
        "partings": {"clip": 2, "amp": 1},
        "rejected-cases": 3,
        "rounding-ulp": 0.25,
        "depends-on-order": True,
        "not-tried": ["saving fails"],
    }
    (both,) = merge_rows([one, two])
    assert (both.status, both.trials, both.judgements, both.seconds) == ("violated", 7, 7, 2.0)
    assert (both.invariants[0].judged, both.invariants[0].violated) == (7, 1)
    assert both.facts == {
        "partings": {"amp": 1, "clip": 3},
        "rejected-cases": 5,
        "rounding-ulp": 0.5,
        "depends-on-order": True,
        "not-tried": ["comparisons were set aside", "saving fails"],
    }


@pytest.mark.parametrize(
    ("one", "other", "worse"),
    [
        ("held", "doubtful", "doubtful"),
        ("expected", "doubtful", "doubtful"),
        ("doubtful", "violated", "violated"),
        ("unreached", "doubtful", "doubtful"),
    ],
)
def test_of_parts_the_worse_status_stays(one: str, other: str, worse: str) -> None:
    for parts in ((one, other), (other, one)):
        (both,) = merge_rows(map(row, parts))
        assert (both.status, both.invariants[0].status) == (worse, worse)
        assert totals([both], 1.0).doubtful == int(worse == "doubtful")
        assert totals([both], 1.0).violated == int(worse == "violated")


def test_what_cannot_be_judged_is_less_bad_than_what_is_doubtful() -> None:
    unusable = row("unreached")
    unusable.status, unusable.reason = "unusable", "no"
    assert [
        merge_rows(parts)[0].status
        for parts in ([unusable, row("doubtful")], [row("held"), unusable])
    ] == ["doubtful", "unusable"]


def test_the_reason_of_the_worse_part_stays() -> None:
    unusable, crashed = row("unreached"), row("held")
    unusable.status, unusable.reason = "unusable", "no case could be judged"
    crashed.status, crashed.reason = "crashed", "it died twice"
    for parts in ([unusable, crashed], [crashed, unusable]):
        assert [(each.status, each.reason) for each in merge_rows(parts)] == [
            ("crashed", "it died twice")
        ]


def test_explanations_of_parts_add_up_and_the_first_case_of_a_crash_stays() -> None:
    one, two = row("held"), row("held")
    one.invariants[0].explained = {"rounding": 2}
    two.invariants[0].explained = {"rounding": 1, "depends-on-order": 4}
    two.case, two.reproducer = "a.json", "a.py"
    (both,) = merge_rows([one, two, row("held")])
    assert both.invariants[0].explained == {"depends-on-order": 4, "rounding": 3}
    assert (both.case, both.reproducer) == ("a.json", "a.py")
    assert one.invariants[0].explained == {"rounding": 2}


def test_what_is_doubtful_is_as_new_as_what_is_violated_and_never_fixed() -> None:
    held, wrong, doubtful = of(row("held")), of(row("violated")), of(row("doubtful"))
    assert list(comparison_lines(doubtful, held)) == [
        "since the last results: 1 new, 0 fixed, 0 still violated or doubtful",
        "  new: mylib:A on cpu: thaw-resumes (doubtful)",
    ]
    assert list(comparison_lines(doubtful, wrong)) == [
        "since the last results: 0 new, 0 fixed, 1 still violated or doubtful"
    ]
    assert list(comparison_lines(wrong, doubtful)) == [
        "since the last results: 0 new, 0 fixed, 1 still violated"
    ]
    assert list(comparison_lines(held, doubtful))[1] == "  fixed: mylib:A on cpu: thaw-resumes"
    assert [
        has_new_failure(doubtful, held),
        has_new_failure(doubtful, None),
        has_new_failure(doubtful, wrong),
    ] == [
        True,
        True,
        False,
    ]
    assert not has_new_failure(of(row("doubtful", severity="cost")), held)


def test_the_order_in_which_parts_came_is_not_told() -> None:
    one, two, three = row("held"), row("violated"), row("held")
    two.target, three.invariants[0].id = "mylib:B", "flags-untouched"
    whole = merge_rows([one, two, three])
    assert whole == merge_rows([three, two, one])
    assert [each.target for each in whole] == ["mylib:A", "mylib:B"]
    assert [each.id for each in whole[0].invariants] == ["thaw-resumes", "flags-untouched"]


def test_what_is_new_is_told_and_fails_the_night_unless_it_only_costs() -> None:
    held, wrong, cost = of(row("held")), of(row("violated")), of(row("violated", severity="cost"))
    assert list(comparison_lines(wrong, held)) == [
        "since the last results: 1 new, 0 fixed, 0 still violated",
        "  new: mylib:A on cpu: thaw-resumes",
    ]
    assert list(comparison_lines(held, wrong))[1] == "  fixed: mylib:A on cpu: thaw-resumes"
    assert list(comparison_lines(wrong, wrong)) == [
        "since the last results: 0 new, 0 fixed, 1 still violated"
    ]
    assert [has_new_failure(wrong, held), has_new_failure(wrong, None)] == [True, True]
    assert [
        has_new_failure(wrong, wrong),
        has_new_failure(held, wrong),
        has_new_failure(cost, held),
    ] == [False, False, False]
