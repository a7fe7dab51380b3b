"""What an optimizer does to the process costs its own verdict, and is put back."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

import frostproof
from frostproof.process.fence import fenced
from frostproof.spec.setting import BY_NAME
from tests.helpers.broken import Sound


class SetsDefaultDtype(Sound):
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        torch.set_default_dtype(torch.float64)
        return super().step(closure)


class Floods(Sound):
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        print("x" * 100_000)
        print("y" * 100_000, file=sys.stderr)
        return super().step(closure)


class Reseeds(Sound):
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        torch.manual_seed(0)
        return super().step(closure)


def test_a_changed_default_dtype_is_told_and_put_back() -> None:
    report = frostproof.check_optimizer(SetsDefaultDtype, max_examples=10, devices=["cpu"], seed=0)
    violated = {
        row.id: row.message or "" for row in report.rows[0].invariants if row.status == "violated"
    }
    assert list(violated) == ["flags-untouched"]
    assert "set the default dtype to torch.float64" in violated["flags-untouched"]
    assert torch.get_default_dtype() == torch.float32


def test_what_is_printed_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert frostproof.check_optimizer(Floods, max_examples=5, devices=["cpu"], seed=0).ok
    out, err = capsys.readouterr()
    assert "the rest of what this optimizer prints is dropped" in out
    assert len(out) < 20_000
    assert len(err) < 20_000


def test_random_numbers_go_on_as_if_nothing_had_run() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    frostproof.check_optimizer(Reseeds, max_examples=5, devices=["cpu"], seed=0)
    assert torch.equal(torch.rand(2), expected)


def test_what_torch_logs_of_each_graph_is_kept_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    trace = logging.getLogger("torch.__trace")
    trace.addHandler(caplog.handler)  # as pytest does
    try:
        with fenced("cpu", BY_NAME["compiled"]):
            assert torch.compile(torch.neg, backend="eager")(torch.ones(2)).sum() == -2
        assert not caplog.records
        assert not trace.disabled
    finally:
        trace.removeHandler(caplog.handler)


def test_torch_is_set_up_as_it_was() -> None:
    def settings() -> list[object]:
        memory: Any = torch.utils.deterministic
        found: list[object] = [
            torch.backends.opt_einsum.enabled,
            torch.backends.mha.get_fastpath_enabled(),
            torch.get_num_threads(),
        ]
        return [
            *found,
            torch.are_deterministic_algorithms_enabled(),
            memory.fill_uninitialized_memory,
        ]

    before = settings()
    with fenced("cpu"):
        assert settings() != before
    assert settings() == before
