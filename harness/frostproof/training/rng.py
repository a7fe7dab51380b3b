"""The random number generators that a training run may draw from: torch's and Python's."""

from __future__ import annotations

import random
import sys

import torch

from frostproof.training.bits import bits


def seed_everything(seed: int, device: str) -> None:
    """Put every generator that a model or an optimizer may use into the state that `seed` gives."""
    # torch.manual_seed also visits every accelerator backend, which costs a hundred times as much.
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(seed)
    if device != "cpu":
        torch.get_device_module(device).manual_seed_all(seed)


def generator_state(device: str) -> bytes:
    """What torch's generators of the CPU and of `device` would draw next, as bytes to compare."""
    state = bits(torch.default_generator.get_state())
    if device != "cpu":
        state += bits(torch.get_device_module(device).get_rng_state())
    return state
