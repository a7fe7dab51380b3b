"""A fence around a run: it sets up the process, and undoes what changes inside it."""

from __future__ import annotations

import gc
import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.backends import opt_einsum

from frostproof.process.allocator import limit_kernel_caches
from frostproof.process.device import DETERMINISTIC_WORKSPACE, is_accelerator
from frostproof.process.interruption import interruptible
from frostproof.process.quiet import limited_output
from frostproof.spec.setting import EAGER, Setting


@contextmanager
def fenced(
    device: str, setting: Setting = EAGER, *, fused_attention: bool = False
) -> Iterator[None]:
    """Run on `device` with deterministic kernels, and undo what an optimizer changes in torch.

    Inside the fence nothing warns, little is printed and Ctrl-C raises RunInterruptedError.
    torch uses one thread. It compiles nothing unless the setting does: compiling an optimizer
    takes a second for each network, and is another question.
    """
    limit_kernel_caches()
    with (
        settings_restored(device),
        _repeatable_kernels(device, fused_attention),
        _no_process_group_left(),
        interruptible(),
        warnings.catch_warnings(),
        _compiling() if setting.compiles else eager_only(),
        limited_output(),
    ):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def settings_restored(device: str) -> Iterator[None]:
    """Restore the random number generators, the grad mode and the default dtype."""
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    cpu_state, python_state = torch.get_rng_state(), random.getstate()
    module = torch.get_device_module(device) if is_accelerator(device) else None
    device_state = module.get_rng_state() if module is not None else None
    try:
        yield
    finally:
        torch.set_rng_state(cpu_state)
        random.setstate(python_state)
        if module is not None:
            module.set_rng_state(device_state)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)


@contextmanager
def _repeatable_kernels(device: str, fused_attention: bool) -> Iterator[None]:
    """Make kernels repeat themselves.

    Fused attention is chosen by requires_grad, and rounds differently. Searching for the best
    order of each einsum takes minutes if there are many small tensors.
    """
    memory: Any = torch.utils.deterministic
    einsum: Any = opt_einsum
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill, reorder = memory.fill_uninitialized_memory, einsum.enabled
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(fused_attention)
    if is_accelerator(device):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", DETERMINISTIC_WORKSPACE)
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = einsum.enabled = False
    try:
        yield
    finally:
        memory.fill_uninitialized_memory, einsum.enabled = fill, reorder
        torch.backends.mha.set_fastpath_enabled(fast_path)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_num_threads(threads)


_LIMITS = ("recompile_limit", "accumulated_recompile_limit", "fail_on_recompile_limit_hit")
"""Settings of torch.compile that a training may change."""


@contextmanager
def _compiling() -> Iterator[None]:
    """Let torch compile, without its warnings. Restore its settings, and drop what it compiled."""
    config, level, often = torch._dynamo.config, logging.root.manager.disable, gc.get_threshold()
    logging.disable(logging.WARNING)  # pytest would keep what torch logs of each graph
    trace = logging.getLogger("torch.__trace")  # does not heed that
    disabled, trace.disabled = trace.disabled, True
    gc.set_threshold(50_000, *often[1:])  # compiling makes many objects, and little garbage
    try:
        with (
            torch.compiler.set_stance("default"),
            config.patch({name: getattr(config, name) for name in _LIMITS}),
        ):
            yield
    finally:
        torch._dynamo.reset()
        gc.set_threshold(*often)
        trace.disabled = disabled
        logging.disable(level)


def eager_only() -> AbstractContextManager[None]:
    """Inside this context torch compiles nothing, and code that asks for it runs eagerly."""
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def _no_process_group_left() -> Iterator[None]:
    """Destroy a process group that was made inside, for an optimizer that needs one."""
    had_group = _has_process_group()
    try:
        yield
    finally:
        if _has_process_group() and not had_group:
            torch.distributed.destroy_process_group()


def _has_process_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
