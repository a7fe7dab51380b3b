"""The plugin is a guest: it costs an unrelated run nothing, and leaves everything as it was."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frostproof.doors.pytest_plugin.collection import make_targets_importable
from frostproof.doors.pytest_plugin.items import parse_node_id
from frostproof.results.files import load_results
from tests.helpers.warm import run_pytest


@pytest.fixture(autouse=True)
def own_process(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def test_our_own_tests_are_not_taken_for_those_of_a_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkout = str(Path(__file__).parents[2])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", [checkout, "elsewhere"])
    config: Any = SimpleNamespace(invocation_params=SimpleNamespace(dir=tmp_path))
    make_targets_importable(config)
    assert sys.path == [str(tmp_path), "elsewhere"]


def test_an_unrelated_run_imports_neither_torch_nor_strategies(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_light():
            assert not {"torch", "hypothesis.strategies"} & sys.modules.keys()
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*frostproof: profile*")


def test_settings_of_the_consumer_stay_as_they_are(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        from hypothesis import settings
        settings.register_profile("mine", max_examples=17)
        settings.load_profile("mine")
        """
    )
    pytester.makepyfile(
        test_zz_own="""
        import random, torch, warnings
        from hypothesis import given, settings, strategies as st
        seen = []

        @given(st.integers())
        def test_examples(n):
            seen.append(n)

        def test_after():
            assert len(seen) == 17
            assert settings().max_examples == 17
            assert torch.is_grad_enabled()
        """
    )
    options = (
        "--frostproof-optimizer",
        "torch.optim:Rprop",
        "--frostproof-device",
        "cpu",
        "--frostproof-max-examples",
        "3",
    )
    result = pytester.runpytest_subprocess(
        "--pyargs", "frostproof_properties", "test_zz_own.py", "-W", "error", *options
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["frostproof: profile dev, 3 examples, seed *", "torch.optim: *Rprop foreach*"]
    )


def test_a_run_that_selects_none_of_our_tests_is_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_zz_own="def test_own(): pass")
    for arguments, code in ((("-k", "test_own"), 0), (("--collect-only",), 0)):
        result = run_pytest(
            pytester, "--pyargs", "frostproof_properties", "test_zz_own.py", *arguments
        )
        assert result.ret == code
        result.stdout.no_fnmatch_line("*judgements*")


def test_an_option_that_has_nothing_to_write_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_zz_own="def test_own(): pass")
    result = run_pytest(pytester, "test_zz_own.py", "--frostproof-json", "out.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["frostproof: --frostproof-json did nothing: no test of *"])


def test_a_target_that_nothing_verifies_is_wrong_usage(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_zz_own="def test_own(): pass")
    options = ("--frostproof-optimizer", "torch.optim:SGD", "-n", "0")
    result = run_pytest(pytester, "test_zz_own.py", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*-optimizer did nothing: *; add --pyargs frostproof_properties"])


def test_an_option_that_decorated_tests_do_not_use_is_told(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makepyfile(
        """
        import frostproof
        from tests.helpers.broken import Sound

        @frostproof.parametrize(Sound, max_examples=2, devices=["cpu"])
        def test_sound(check):
            check()
        """
    )
    options = ("--frostproof-setting", "compiled", "--frostproof-seed", "1")
    result = run_pytest(pytester, *options)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["frostproof: --frostproof-setting did nothing: no test of *"])


def test_a_value_in_the_configuration_that_is_none_names_its_key(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nfrostproof_max_examples = many\n")
    result = run_pytest(pytester, "--pyargs", "frostproof_properties")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "frostproof_max_examples in the configuration" in result.stderr.str()


def test_a_test_that_something_else_ends_is_not_held_in_full(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        class Limit:
            @pytest.hookimpl(wrapper=True, trylast=True)
            def pytest_runtest_call(self, item):
                yield
                raise TimeoutError("3 seconds")

        def pytest_configure(config):
            config.pluginmanager.register(Limit())
        """
    )
    options = ("--frostproof-optimizer", "torch.optim:Rprop", "--frostproof-max-examples", "2")
    suite = ("--pyargs", "frostproof_properties", "-n", "0")
    result = run_pytest(pytester, *suite, *options, "--frostproof-json", "out.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    rows = load_results(pytester.path / "out.json").subjects
    cut_short = {row.facts.get("cut-short") for row in rows if row.judgements}
    assert cut_short == {"TimeoutError: 3 seconds"}


def test_every_verification_is_known_by_its_node_id(pytester: pytest.Pytester) -> None:
    result = run_pytest(
        pytester,
        "--pyargs",
        "frostproof_properties",
        "--collect-only",
        "-q",
        "--frostproof-device=cpu",
    )
    node_ids = [line for line in result.outlines if re.search(r"test_(optimizers|autograd)", line)]
    assert any("test_known_failure_of_autograd" in node_id for node_id in node_ids)
    assert [node_id for node_id in node_ids if parse_node_id(node_id) is None] == []


def test_options_are_ini_keys_too(pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml(
        """
        [tool.pytest]
        frostproof_optimizers = ["torch.optim:Rprop"]
        frostproof_devices = ["cpu"]
        frostproof_max_examples = 4
        frostproof_seed = 5
        frostproof_strict = true
        frostproof_json = "out.json"
        """
    )
    result = run_pytest(pytester, "--pyargs", "frostproof_properties")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["frostproof: profile dev, 4 examples, seed 5", "torch.optim: *Rprop foreach*"]
    )
    assert (pytester.path / "out.json").exists()


def test_a_bad_target_in_the_configuration_is_one_line(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nfrostproof_optimizers = torch.optim:SGDD\n")
    result = run_pytest(pytester, "--pyargs", "frostproof_properties")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Did you mean SGD?" in result.stdout.str() + result.stderr.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_the_seed_of_hypothesis_is_honoured(pytester: pytest.Pytester) -> None:
    options = (
        "--frostproof-optimizer",
        "torch.optim:Rprop",
        "--frostproof-device",
        "cpu",
        "--frostproof-max-examples",
        "2",
    )
    result = run_pytest(
        pytester, "--pyargs", "frostproof_properties", "--hypothesis-seed", "11", *options
    )
    result.stdout.fnmatch_lines(["frostproof: profile dev, 2 examples, seed 11"])
    both = (*options, "--hypothesis-seed", "11", "--frostproof-seed", "0")
    result = run_pytest(pytester, "--pyargs", "frostproof_properties", *both)
    result.stdout.fnmatch_lines(["frostproof: profile dev, 2 examples, seed 0"])


def test_a_target_that_is_named_twice_is_verified_once(pytester: pytest.Pytester) -> None:
    twice = ("--frostproof-optimizer", "torch.optim:Rprop") * 2
    options = (*twice, "--frostproof-device", "cpu", "--collect-only", "-q")
    result = run_pytest(pytester, "--pyargs", "frostproof_properties", *options)
    ids = [line for line in result.outlines if "Rprop" in line]
    assert len(ids) == 3
    assert all(line.endswith("@cpu]") for line in ids)


def test_each_optimizer_has_its_own_place_in_the_example_database(
    pytester: pytest.Pytester,
) -> None:
    """The second run finds the failure of Bad at once, and does not replay it for Good."""
    pytester.makepyfile(
        mylib="""
        import torch

        class Good(torch.optim.Rprop):
            def __init__(self, params, lr=0.01):  # one implementation, where Rprop has several
                super().__init__(params, lr=lr)

        class Bad(Good):
            def step(self, closure=None):  # drops the loss
                super().step(closure)
        """
    )
    targets = ("--frostproof-optimizer", "mylib:Good", "--frostproof-optimizer", "mylib:Bad")
    for examples in ("40", "1"):
        arguments = (
            "--pyargs",
            "frostproof_properties",
            *targets,
            "--frostproof-device",
            "cpu",
            "--frostproof-max-examples",
            examples,
        )
        result = run_pytest(pytester, *arguments, "-p", "no:randomly")
        failed = [line for line in result.outlines if line.startswith("FAILED")]
        assert {"Bad" in line for line in failed} == {True}


def test_the_fixture_watches_a_training_of_ones_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        import torch
        from torch import nn

        def train(frostproof_watch, move):
            model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
            model[0].requires_grad_(False)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            frostproof_watch(model, optimizer, frozen=["0"])
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            if move:
                model[0].weight.data.add_(1)
            optimizer.step()

        def test_good(frostproof_watch):
            train(frostproof_watch, False)

        def test_bad(frostproof_watch):
            train(frostproof_watch, True)

        def test_at_the_end(frostproof_watch):
            train(frostproof_watch, False)
            model = nn.Linear(2, 2)
            frostproof_watch(model, torch.optim.SGD(model.parameters()), "weight")
            model.weight.data.add_(1)
        """
    )
    result = run_pytest(pytester)
    result.assert_outcomes(passed=2, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*frozen-weights-unchanged: at step 2: *0.weight*"])
    result.stdout.fnmatch_lines(["*frozen-weights-unchanged: at step 0: *weight*"])
