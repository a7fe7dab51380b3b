"""Filled memory shows who reads before writing. If kernels do, the optimizer is not to blame."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from frostproof.approaches.approach import Approaches, OptimizerSubset, Parameters
from frostproof.counterexamples.execution import reproduces
from frostproof.counterexamples.script import script
from frostproof.doors.pytest_plugin import suite
from frostproof.optimizers.targets import resolve
from frostproof.process.allocator import (
    CACHE_CAPACITIES,
    FILLER,
    can_fill_kernel_memory,
    filled_memory,
    shuffle_addresses,
)
from frostproof.process.fence import fenced
from frostproof.spec.subject import AUTOGRAD
from frostproof.verification.item_report import item_report
from frostproof.verification.verification import Verification
from tests.trial.test_lockstep import CASE

glibc = pytest.mark.skipif(
    not can_fill_kernel_memory(),
    reason="needs glibc, whose malloc can be told to fill what it gives",
)


def test_the_next_parameters_have_addresses_in_another_order() -> None:
    orders = set()
    for _ in range(20):
        shuffle_addresses()
        made = [nn.Parameter(torch.empty(0)) for _ in range(5)]
        addresses = [id(each) for each in made]
        orders.add(tuple(map(sorted(addresses).index, addresses)))
    assert len(orders) > 10, orders


def taken() -> bytes:
    """Return what new memory holds, of a size without a free list. It is freed with zeros in it."""
    library: Any = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    address = library.malloc(5000)
    held = ctypes.string_at(address + 64, 64)
    ctypes.memset(address, 0, 5000)
    library.free(address)
    return held


@glibc
def test_memory_that_is_taken_is_filled() -> None:
    filler = bytes([FILLER ^ 0xFF])
    with fenced("cpu"):
        with filled_memory():
            assert set(taken()) == set(filler)
            assert torch.empty(1000).isnan().all()
        taken()
        assert set(taken()) != set(filler)


class _Stray(torch.autograd.Function):
    """A kernel whose gradient is wrong where the memory that it takes is not empty."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return weight.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient + (taken()[0] == FILLER ^ 0xFF)


def _put_into_linear(kernel: type[_Stray], monkeypatch: pytest.MonkeyPatch) -> None:
    linear, stray = nn.functional.linear, cast(Any, kernel.apply)
    monkeypatch.setattr(
        nn.functional, "linear", lambda x, weight, bias=None: linear(x, stray(weight), bias)
    )


@dataclass(frozen=True)
class _ElsewhereInMemory(OptimizerSubset):
    """B, in whose backward pass memory holds by chance something else."""

    def backward(self, loss: Tensor, trainable: Parameters) -> None:
        with filled_memory():
            super().backward(loss, trainable)


@glibc
def test_kernels_that_read_stray_memory_are_no_fault_of_the_optimizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _put_into_linear(_Stray, monkeypatch)
    verification = Verification(
        resolve(["torch.optim:SGD"])[0], "cpu", approaches=Approaches(b=_ElsewhereInMemory("B"))
    )
    verification.prepare()
    with fenced("cpu"):
        verification.judge(CASE)
    assert item_report(verification).row.status == "held"
    explained = [tally.explained for tally in verification.tallies.values() if tally.explained]
    assert explained
    assert all(set(each) == {"nondeterministic-kernels"} for each in explained)


class _StrayOnce(_Stray):
    """The same, which happens to find empty memory each time after the first."""

    seen = False

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        wrong = _Stray.backward(ctx, gradient)
        if _StrayOnce.seen or torch.equal(wrong, gradient):
            return gradient
        _StrayOnce.seen = True
        return wrong


@glibc
def test_kernels_that_read_stray_memory_once_are_no_fault_of_the_optimizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _put_into_linear(_StrayOnce, monkeypatch)
    verification = Verification(resolve(["torch.optim:SGD"])[0], "cpu")
    verification.prepare()
    _StrayOnce.seen = False
    with fenced("cpu"):
        verification.judge(CASE.replaced(extras=("again",)))
    assert _StrayOnce.seen
    assert verification.tallies["repeats-itself"].explained == {"nondeterministic-kernels": 1}
    assert item_report(verification).row.status == "held"


@pytest.mark.parametrize("shown", [True, False])
def test_what_kernels_do_is_expected_where_this_machine_shows_it(
    shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "kernels_show_it", lambda: shown)
    model = {"model": None, "freeze": (), "input": None, "training_step": None}
    run: Any = SimpleNamespace(
        devices=("cpu",), settings=(), way=None, shards=1, strict=False, **model
    )
    (known,) = suite.verification_params("test_known_failure_of_autograd", run)
    (autograd,) = suite.verification_params("test_autograd", run)
    assert known.id == "repeats-itself of torch.autograd-default@cpu"
    assert [mark.name for mark in known.marks] == ["xfail" if shown else "skip"]
    assert ("repeats-itself" in autograd.values[0].subject.expected_failures) == shown


def test_the_script_of_what_kernels_do_shows_it(tmp_path: Path) -> None:
    if not suite.kernels_show_it():
        pytest.skip(
            suite.NOT_HERE
        )  # it is a bug of some processors' kernels, and nothing that can be installed brings one
    case = suite.RECORDED_AUTOGRAD.known_case("repeats-itself")
    assert case is not None
    with fenced("cpu"):
        verification = Verification(AUTOGRAD, "cpu", only_invariant="repeats-itself")
        verification.find_violations(case)
        shown = verification.tallies["repeats-itself"].shown
        assert shown is not None
        text = script(shown, AUTOGRAD)
    path = tmp_path / "counterexample.py"
    path.write_text(text)
    assert reproduces(path, "repeats-itself", tmp_path).reproduced


def test_few_kernels_are_kept_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "2048")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    with fenced("cpu"):
        assert os.environ["LRU_CACHE_CAPACITY"] == "2048"
        assert (
            os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]
            == CACHE_CAPACITIES["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]
        )
