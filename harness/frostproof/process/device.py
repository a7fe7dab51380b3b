"""The devices for verification: the CPU and accelerators.

A device is named by its type, as `cuda`, or with an index, as `cuda:1`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from frostproof.errors import UsageError

DETERMINISTIC_WORKSPACE = ":4096:8"
"""CUBLAS_WORKSPACE_CONFIG for reproducible results, from torch's notes on reproducibility."""

PROCESS_BYTES = 1 << 30
"""Memory of an accelerator for one process: mostly its context, as the networks are small."""


def available_devices() -> list[str]:
    """Return the types of the available devices, in the order in which they are verified."""
    accelerator = (
        torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    )
    return ["cpu", *([accelerator.type] if accelerator is not None else [])]


def select_devices(requested: Sequence[str]) -> list[str]:
    """Return the requested devices, or all if none is. Raises UsageError if one is absent."""
    available = available_devices()
    requested = [requested] if isinstance(requested, str) else requested
    for name in requested:
        kind, _, index = name.partition(":")
        if kind not in available or (index and not (index.isdigit() and int(index) < _count(kind))):
            raise UsageError(f"device {name!r} is absent: found {', '.join(available)}")
    return list(dict.fromkeys(requested)) or available


def device_for_worker(device: str, worker: int) -> str:
    """Return `device` with an index: worker number `worker` gets the accelerators in turn."""
    if is_accelerator(device) and ":" not in device:
        return f"{device}:{worker % _count(device)}"
    return device


def describe_devices() -> list[str]:
    """Return a line for the CPU, and for each accelerator with its name and memory."""
    lines = [f"cpu: kernels for {torch.backends.cpu.get_cpu_capability()}"]
    for kind in filter(is_accelerator, available_devices()):
        module = torch.get_device_module(kind)
        for index in range(_count(kind)):
            name = getattr(module, "get_device_name", lambda index: "")(index)
            free_memory = getattr(module, "mem_get_info", None)
            memory = f", {free_memory(index)[1] / 2**30:.0f} GiB" if free_memory else ""
            lines.append(f"{kind}:{index}: {name}{memory}")
    return lines


def is_accelerator(device: str) -> bool:
    return device != "cpu"


def determinism_settings(devices: Sequence[str]) -> list[str]:
    """Describe, one line per device, the settings for kernels that may not repeat themselves."""
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG", DETERMINISTIC_WORKSPACE)
    return [
        f"on {device}: deterministic algorithms where there are any, "
        f"CUBLAS_WORKSPACE_CONFIG={workspace}"
        for device in devices
        if device.startswith("cuda")
    ]


def most_workers(devices: Sequence[str]) -> int | None:
    """Return how many processes have room on the accelerators, or None if that is unknown."""
    accelerators = filter(is_accelerator, select_devices(devices))
    rooms = [room for device in accelerators if (room := _room(device)) is not None]
    return max(1, min(rooms)) if rooms else None


def _room(device: str) -> int | None:
    """Return how many processes have room on this accelerator, or on all of its type."""
    kind, _, index = device.partition(":")
    free_memory = getattr(torch.get_device_module(kind), "mem_get_info", None)
    if free_memory is None:
        return None
    # Workers get the devices in turn, so the fullest device decides.
    indices = [int(index)] if index else range(_count(kind))
    return len(indices) * min(int(free_memory(each)[0]) // PROCESS_BYTES for each in indices)


def _count(kind: str) -> int:
    return torch.accelerator.device_count() if is_accelerator(kind) else 1
