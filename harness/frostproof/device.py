"""The devices that verification runs on: the CPU, accelerators, and `meta`, which has shapes and no values."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from frostproof.errors import UsageError


def available() -> list[str]:
    """Device types found here, in the order in which they are verified."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
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
    return f"{device}:{worker % _count(device)}" if is_accelerator(device) and ":" not in device else device


def is_accelerator(device: str) -> bool:
    return device not in ("cpu", "meta")


def _count(kind: str) -> int:
    return torch.accelerator.device_count() if is_accelerator(kind) else 1
