"""The tests of facts of torch run if no target is named, and leave everything as it was."""

from __future__ import annotations

import json

import pytest

from tests.helpers.warm import run_pytest

SUITE = ("--pyargs", "frostproof_properties")
TARGET = (
    "--frostproof-optimizer",
    "torch.optim:Rprop",
    "--frostproof-device",
    "cpu",
    "--frostproof-max-examples",
    "2",
)


@pytest.fixture(autouse=True)
def own_process(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def test_facts_are_left_out_where_a_target_is_named(pytester: pytest.Pytester) -> None:
    result = run_pytest(pytester, *SUITE, "-v", "-n", "1", *TARGET, "--frostproof-json", "out.json")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*test_facts_*.py::*")
    result.stdout.fnmatch_lines(["*test_optimizer?torch.optim:Rprop-forloop@cpu*"])
    rows = json.loads((pytester.path / "out.json").read_text())["subjects"]
    assert {row["target"] for row in rows} == {"torch.optim:Rprop"}


def test_a_target_and_nothing_but_facts_is_nothing_to_run(pytester: pytest.Pytester) -> None:
    result = run_pytest(pytester, "--pyargs", "frostproof_properties.test_facts_ownership", *TARGET)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["*deselected*"])


def test_facts_run_where_no_target_is_named(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(
        *SUITE,
        "-W",
        "error",
        "-n",
        "1",
        "-k",
        "test_a_parameter_given_twice or test_dropout_draws",
    )
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*judgements*")


def test_a_broken_fact_fails_the_run(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        import torch

        @pytest.fixture(autouse=True, scope="session")
        def another_torch():
            torch.optim.SGD.step = lambda self, closure=None: None
        """
    )
    arguments = (
        "--rootdir",
        str(pytester.path),
        "-c",
        str(pytester.makeini("[pytest]")),
        f"--confcutdir={pytester.path}",
    )
    result = run_pytest(
        pytester, "-p", "conftest", *SUITE, "-k", "test_a_parameter_given_twice", *arguments
    )
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_facts_leave_random_numbers_and_threads_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_aa_before="""
        import torch
        def test_before():
            torch.set_num_threads(2)
            torch.manual_seed(3)
        """,
        test_zz_after="""
        import torch
        def test_after():
            assert torch.get_num_threads() == 2
            state = torch.get_rng_state()
            assert torch.equal(state, torch.manual_seed(3).get_state())
        """,
    )
    arguments = (
        "test_aa_before.py",
        "frostproof_properties.test_facts_buffers",
        "test_zz_after.py",
    )
    result = run_pytest(pytester, "--pyargs", *arguments, "-k", "before or after or dropout")
    assert result.ret == 0
    result.assert_outcomes(passed=4)
