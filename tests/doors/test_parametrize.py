"""`@frostproof.parametrize` in an author's own tests."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest

import frostproof
from frostproof.doors.parametrize import Check, SharedRun
from frostproof.doors.python import Report
from frostproof.invariants.registry import GROUPS, INVARIANTS
from frostproof.optimizers.discovery import subjects
from frostproof.results.files import load_results
from frostproof.results.rows import InvariantRow, SubjectRow
from tests.helpers.broken import Sound
from tests.helpers.models import ResNet

AUTHOR = """
import frostproof
from tests.helpers.broken import DecaysEverything, Sound, StateFromTheStart

@frostproof.parametrize(Sound, max_examples=15, devices=["cpu"], seed=0)
def test_sound(check):
    assert check().ok

@frostproof.parametrize(DecaysEverything, max_examples=15, devices=["cpu"], seed=0)
def test_leaky(check):
    check()

@frostproof.parametrize(StateFromTheStart, max_examples=15, devices=["cpu"], seed=0, strict=True,
                        expected_failures={"no-state-for-frozen": "allocates in __init__"})
def test_known(check):
    check()
"""


def test_every_invariant_is_in_one_group() -> None:
    assert sorted(identity for group in GROUPS.values() for identity in group) == sorted(
        invariant.id for invariant in INVARIANTS
    )


@pytest.mark.parametrize("processes", ["0", "2"])
def test_one_test_for_each_group_of_invariants(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, processes: str
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makepyfile(test_author=AUTHOR)
    options = ("-q", "-rA", "--frostproof-seed", "5", "--frostproof-json", "out.json")
    result = pytester.runpytest_subprocess("-n", processes, *options)
    passed = {
        line.split("::")[1].split("@")[0] for line in result.outlines if line.startswith("PASSED")
    }
    assert {"test_sound[Sound", "test_known[StateFromTheStart"} <= passed
    known = [line for line in result.outlines if line.startswith("XFAIL")]
    assert len(known) == 1
    assert "StateFromTheStart@cpu-frozen" in known[0]
    assert known[0].endswith("no-state-for-frozen: allocates in __init__")
    found = load_results(pytester.path / "out.json")
    assert {row.target: row.status for row in found.subjects} == {
        "tests.helpers.broken:DecaysEverything": "violated",
        "tests.helpers.broken:Sound": "held",
        "tests.helpers.broken:StateFromTheStart": "held",
    }
    assert (found.environment.devices, found.environment.seed) == (["cpu"], 0), "as the tests state"
    assert all(row.trials >= 15 for row in found.subjects)
    assert {row.facts["own-options"] for row in found.subjects} == {"max_examples 15, seed 0"}
    assert not [
        line for line in result.outlines if line.startswith("FAILED") and "test_leaky" not in line
    ]
    failed = [line for line in result.outlines if line.startswith("FAILED")]
    assert any("DecaysEverything@cpu-frozen" in line for line in failed)
    result.stdout.fnmatch_lines(
        [
            "*frozen-weights-unchanged: approach ? moved a frozen parameter*",
            "*case: frostproof-cases/*DecaysEverything-default-cpu-frozen-weights-unchanged.json",
            "*script: frostproof-cases/*DecaysEverything-default-cpu-frozen-weights-unchanged.py",
            "*run it again: frostproof replay frostproof-cases/*frozen-weights-unchanged.json",
            "*also violated: *gradless-step-is-noop*",
        ]
    )
    result.stdout.no_fnmatch_line("*where a test states no other*")
    result.stdout.no_fnmatch_line("*parametrize.py*")  # the test's own line is shown alone
    cases = pytester.path / "frostproof-cases"
    assert [*cases.glob("*DecaysEverything-default-cpu-gradless-step-is-noop.py")]


def test_workers_share_a_run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makepyfile(
        """
        import frostproof
        from tests.helpers.broken import Sound

        @frostproof.parametrize(Sound, max_examples=10, devices=["cpu"])
        def test_sound(check):
            check()
        """
    )
    options = ("-n", "2", "--dist", "each", "--frostproof-json", "out.json")
    result = pytester.runpytest_subprocess(*options)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["frostproof: profile dev, seed *, where a test states no other: --frostproof-seed *"]
    )
    (row,) = load_results(pytester.path / "out.json").subjects
    assert row.trials == 10


def test_a_test_that_does_not_check_begins_no_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makepyfile(
        """
        import frostproof
        from frostproof.doors import parametrize
        from tests.helpers.broken import Sound

        def never(*arguments, **named):
            raise AssertionError("it was run")

        @frostproof.parametrize(Sound, devices=["cpu"])
        def test_nothing(check):
            parametrize.check_optimizer = never
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.no_fnmatch_line("*it was run*")
    assert result.ret == 0


def checked(severity: str, **options: object) -> Check:
    """A check of what is thawed, in a run that found something doubtful there."""
    run = SharedRun(subjects(Sound)[0], "cpu", options)
    row = InvariantRow(
        "thaw-resumes", "doubtful", severity, 5, 1, "stays still (doubtful: it exits 0)"
    )
    state: Any = "held" if severity == "cost" else "doubtful"
    run.__dict__["report"] = Report(
        [SubjectRow("mylib:A", "default", "cpu", "1", state, None, 5, 5, 1.0, {}, [row])], 1.0
    )
    return Check(run, "thawed")


def test_a_doubtful_row_of_its_group_fails_in_one_line() -> None:
    with pytest.raises(pytest.fail.Exception) as error:
        checked("wrong")()
    assert (
        str(error.value)
        == "mylib:A on cpu: thaw-resumes is doubtful: stays still (doubtful: it exits 0)"
    )
    assert not error.value.pytrace
    with pytest.raises(pytest.fail.Exception):
        checked("cost", strict=True)()
    assert checked("cost")().ok


def test_the_session_is_strict_where_the_decorator_states_nothing() -> None:
    for stated, fails in (({}, True), ({"strict": False}, False), ({"strict": True}, True)):
        check = checked("cost", **stated)
        check.run.defaults = {"strict": True}
        with pytest.raises(pytest.fail.Exception) if fails else nullcontext():
            check()


@pytest.mark.parametrize("required", [True, False])
def test_an_implementation_beside_the_first_need_not_be_usable(required: bool) -> None:
    check = checked("wrong")
    check.run.required = required
    (row,) = check.run.report.rows
    row.status, row.reason = "unusable", "cannot step"
    raised = pytest.fail.Exception if required else pytest.skip.Exception
    with pytest.raises(raised, match="mylib:A on cpu could not be judged: cannot step"):
        check()


def test_every_setting_is_checked() -> None:
    check = checked("cost")
    rows = check.run.report.rows
    found = msgspec.structs.replace(rows[0].invariants[0], status="violated", severity="wrong")
    bad = msgspec.structs.replace(rows[0], variant="compiled", invariants=[found])
    rows.append(bad)
    with pytest.raises(AssertionError, match="mylib:A compiled on cpu"):
        check()


def test_several_optimizers_are_checked_alike(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import frostproof
        from tests.helpers.broken import DecaysEverything, Sound

        @frostproof.parametrize(Sound, DecaysEverything, max_examples=5, devices=["cpu"], seed=0)
        def test_ours(check):
            check()
        """
    )
    result = pytester.runpytest_inprocess("-q", "--collect-only")
    names = {line.partition("[")[2].partition("@")[0] for line in result.outlines if "[" in line}
    assert names == {"Sound", "DecaysEverything"}


def test_the_options_of_the_command_are_options_here() -> None:
    model = {"model": ResNet, "freeze": "layer1", "input": (2, 3, 6, 6)}
    frostproof.parametrize(Sound, devices=["cpu"], max_examples=5, **model)
    with pytest.raises(frostproof.UsageError, match="Did you mean layer1"):
        frostproof.parametrize(Sound, devices=["cpu"], **{**model, "freeze": "layerr1"})


def test_wrong_usage_is_refused_where_it_decorates() -> None:
    with pytest.raises(frostproof.UsageError, match="is not an invariant"):
        frostproof.parametrize(Sound, expected_failures={"no-such": "why"})
    with pytest.raises(frostproof.UsageError, match="absent"):
        frostproof.parametrize(Sound, devices=["cuda:77"])
    with pytest.raises(frostproof.UsageError, match="not an optimizer"):
        frostproof.parametrize(3)
    with pytest.raises(frostproof.UsageError, match="Arguments of the optimizer belong in"):
        frostproof.parametrize(Sound, warmup_steps=3)
    with pytest.raises(frostproof.UsageError, match="unknown profile"):
        frostproof.parametrize(Sound, profile="fast")
    with pytest.raises(frostproof.UsageError, match="no optimizer"):
        frostproof.parametrize()
    with pytest.raises(frostproof.UsageError, match="no optimizer"):

        @frostproof.parametrize
        def test_lion(check: Check) -> None:
            check()
