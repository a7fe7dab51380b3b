"""The devices that verification runs on: the CPU, accelerators, and `meta`, which has shapes and no values."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from frostproof.errors import UsageError

DETERMINISTIC_WORKSPACE = ":4096:8"
"""What cuBLAS needs to repeat itself, as torch's notes on reproducibility say."""

PROCESS = 1 << 30
"""Bytes of an accelerator's memory that one process may take: its context takes most of them, the networks are small."""


def available() -> list[str]:
    """Device types found here, in the order in which they are verified."""
    accelerator = (
        torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    )
    return ["cpu", *([accelerator.type] if accelerator is not None else []), "meta"]


def chosen(requested: Sequence[str]) -> list[str]:
    """The requested devices, or all available ones. Raises UsageError where one is absent."""
    found = available()
    for name in requested:
        kind, _, index = name.partition(":")
        if kind not in found or (index and not (index.isdigit() and int(index) < _count(kind))):
            raise UsageError(f"device {name!r} is absent: found {', '.join(found)}")
    return list(dict.fromkeys(requested)) or found


def placed(device: str, worker: int) -> str:
    """Where worker number `worker` runs what is meant for `device`: accelerators without an index are taken in turn."""
    return (
        f"{device}:{worker % _count(device)}"
        if is_accelerator(device) and ":" not in device
        else device
    )


def is_accelerator(device: str) -> bool:
    return device not in ("cpu", "meta")


def settings_of(devices: Sequence[str]) -> list[str]:
    """What makes kernels repeat themselves on those of the devices whose kernels may not: a line for each."""
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG", DETERMINISTIC_WORKSPACE)
    return [
        f"on {device}: deterministic algorithms where there are any, CUBLAS_WORKSPACE_CONFIG={workspace}"
        for device in devices
        if device.startswith("cuda")
    ]


def most_workers(devices: Sequence[str]) -> int | None:
    """How many processes the accelerators among these devices have free memory for; None without one that tells."""
    rooms = [
        room
        for each in chosen(devices)
        if is_accelerator(each) and (room := _room(each)) is not None
    ]
    return max(1, min(rooms)) if rooms else None


def _room(device: str) -> int | None:
    """Processes that fit on an accelerator: on the one that has this index, or on all of its kind."""
    kind, _, index = device.partition(":")
    free = getattr(torch.get_device_module(kind), "mem_get_info", None)
    if free is None:
        return None
    # Workers take the devices in turn, so that the fullest decides.
    indices = [int(index)] if index else range(_count(kind))
    return len(indices) * min(int(free(each)[0]) // PROCESS for each in indices)


def _count(kind: str) -> int:
    return torch.accelerator.device_count() if is_accelerator(kind) else 1
