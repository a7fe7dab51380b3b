"""Workers are spread over accelerators, and no more are started than fit. The module is a fake."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from frostproof.errors import UsageError
from frostproof.process import device

GIB = 1 << 30


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Four accelerators of one kind, with so many bytes free."""
    free = [8 * GIB, 8 * GIB, 3 * GIB + 5, 8 * GIB]
    module = SimpleNamespace(mem_get_info=lambda index: (free[index], 80 * GIB))
    monkeypatch.setattr(torch, "get_device_module", lambda kind: module)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: len(free))
    monkeypatch.setattr(device, "available_devices", lambda: ["cpu", "cuda"])
    return free


def test_workers_take_the_indices_in_turn(gpus: list[int]) -> None:
    assert [device.device_for_worker("cuda", worker) for worker in range(6)] == [
        "cuda:0",
        "cuda:1",
        "cuda:2",
        "cuda:3",
        "cuda:0",
        "cuda:1",
    ]
    assert device.device_for_worker("cuda:2", 5) == "cuda:2"
    assert device.device_for_worker("cpu", 3) == "cpu"


@pytest.mark.parametrize(
    ("devices", "most"),
    [
        ((), 12),
        (("cuda",), 12),
        (("cuda:0",), 8),
        (("cuda:2",), 3),
        (("cuda:0", "cuda:2"), 3),
        (("cpu",), None),
    ],
)
def test_no_more_workers_than_there_is_memory_for(
    gpus: list[int], devices: tuple[str, ...], most: int | None
) -> None:
    assert device.most_workers(devices) == most


def test_one_worker_runs_however_full_a_device_is(gpus: list[int]) -> None:
    gpus[1] = 0
    assert device.most_workers(("cuda",)) == 1


def test_an_accelerator_that_does_not_tell_its_memory_caps_nothing(
    gpus: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent: Any = SimpleNamespace()
    monkeypatch.setattr(torch, "get_device_module", lambda kind: silent)
    assert device.most_workers(("cuda",)) is None


def test_an_index_that_is_not_there_is_one_line(gpus: list[int]) -> None:
    with pytest.raises(UsageError, match="device 'cuda:4' is absent"):
        device.most_workers(("cuda:4",))


def test_the_header_names_what_makes_kernels_repeat_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert device.determinism_settings(["cpu"]) == []
    (line,) = device.determinism_settings(["cpu", "cuda:1"])
    assert line.startswith("on cuda:1: deterministic algorithms where there are any, CUBLAS_WORKS")
    assert line.endswith("CUBLAS_WORKSPACE_CONFIG=:4096:8")
