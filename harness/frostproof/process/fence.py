"""A fence around a run: what an optimizer, or we, change in the process is put back when the run ends."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from frostproof.process.allocator import keep_few
from frostproof.process.device import DETERMINISTIC_WORKSPACE, is_accelerator
from frostproof.process.interruption import interruptible
from frostproof.process.quiet import printing_less


@contextmanager
def fenced(device: str, *, fused_attention: bool = False) -> Iterator[None]:
    """One torch thread, no warnings, deterministic kernels, no fused attention unless asked for, nothing compiled, no contraction
    reordered, little printed, few kernels kept, Ctrl-C told apart; RNG, grad mode and defaults restored.

    Fused attention is chosen by requires_grad, and rounds otherwise. To compile what an optimizer wants compiled would take
    minutes for each of the networks, and show what its eager code shows. To look for the best order of each einsum takes
    minutes too, where the tensors are many and small.
    """
    threads, grad, dtype = (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    cpu_state, python_state = torch.get_rng_state(), random.getstate()
    device_state = (
        torch.get_device_module(device).get_rng_state() if is_accelerator(device) else None
    )
    memory: Any = torch.utils.deterministic
    fill, fast_path = memory.fill_uninitialized_memory, torch.backends.mha.get_fastpath_enabled()
    einsum: Any = torch.backends.opt_einsum
    reorders = einsum.enabled
    grouped = _has_process_group()
    keep_few()
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(fused_attention)
    if is_accelerator(device):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", DETERMINISTIC_WORKSPACE)
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = einsum.enabled = False
    try:
        with (
            interruptible(),
            warnings.catch_warnings(),
            torch.compiler.set_stance("force_eager"),
            printing_less(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        if _has_process_group() and not grouped:  # of an optimizer that is given a world of one
            torch.distributed.destroy_process_group()
        memory.fill_uninitialized_memory, einsum.enabled = fill, reorders
        torch.backends.mha.set_fastpath_enabled(fast_path)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_rng_state(cpu_state)
        random.setstate(python_state)
        if device_state is not None:
            torch.get_device_module(device).set_rng_state(device_state)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        torch.set_num_threads(threads)


def _has_process_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
