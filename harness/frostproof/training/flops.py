"""FLOPs by `torch.utils.flop_counter`, with formulas for the CPU's kernels that it passes over.

Matrix products, convolutions and attention count, with two FLOPs for each multiplication. Sums,
activations and norms do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, shape_wrapper

Sizes = Sequence[int]
aten = torch.ops.aten


def _matrix_vector(matrix: Sizes, vector: Sizes, out_shape: Any = None) -> int:
    return 2 * prod(matrix)


def _added_matrix_vector(
    added: Sizes, matrix: Sizes, vector: Sizes, out_shape: Any = None, **_: Any
) -> int:
    return 2 * prod(matrix)


def _dot(left: Sizes, right: Sizes, out_shape: Any = None) -> int:
    return 2 * prod(left)


def _attention(
    query: Sizes, key: Sizes, value: Sizes, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    """Scores, and the values that they weigh. query: (batch, heads, length, features)."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _attention_backward(
    gradient: Sizes,
    query: Sizes,
    key: Sizes,
    value: Sizes,
    *_: Any,
    out_shape: Any = None,
    **__: Any,
) -> int:
    """The scores once more, then the gradients of scores, queries, keys and values: always all."""
    return 2 * prod(query[:-1]) * key[-2] * (3 * query[-1] + 2 * value[-1])


def _lstm(samples: Sizes, ih: Sizes, hh: Sizes, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """One layer in one direction. samples: (time, batch, features)."""
    return 2 * samples[0] * samples[1] * (prod(ih) + prod(hh))


def _lstm_backward(*shapes: Any, out_shape: Any = None, **others: Any) -> int:
    """Gradients of the samples, the states and the weights: all of them, whichever is asked for."""
    return 2 * _lstm(*shapes)


def _convolution_backward(
    gradient: Sizes,
    samples: Sizes,
    weight: Sizes,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: Sequence[bool],
    out_shape: Any = None,
) -> int:
    """As much as the forward pass, for each of the gradients of samples and of weights.

    The formula of torch counts the gradient of the weights `groups` times.
    """
    places = samples if transposed else gradient
    return 2 * places[0] * prod(places[2:]) * prod(weight) * sum(output_mask[:2])


FORMULAS: dict[Any, Callable[..., int]] = {
    aten.mv: _matrix_vector,
    aten.addmv: _added_matrix_vector,
    aten.convolution_backward: _convolution_backward,
    aten.dot: _dot,
    aten.vdot: _dot,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten.mkldnn_rnn_layer: _lstm,
    aten.mkldnn_rnn_layer_backward: _lstm_backward,
}
"""Formulas, by shapes, that FlopCounterMode does not have, or has wrong. Attention is counted as
torch counts it on accelerators (`sdpa_flop`)."""


_by_shapes: Any = shape_wrapper
_ALL: dict[Any, Callable[..., int]] = {
    **flop_registry,
    **{packet: _by_shapes(formula) for packet, formula in FORMULAS.items()},
}


class Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """A context that counts; `flops` are those so far.

    `FlopCounterMode` with these formulas counts the same (a test compares them), but takes longer:
    it also follows modules, by hooks that keep every graph alive until it ends.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula: Any = _ALL.get(getattr(func, "_overloadpacket", func))
        if formula is None:
            # Autograd opens what is composed of other operations; inference mode does without it.
            opens = torch.is_inference_mode_enabled() and hasattr(func, "decompose")
            return self._opened(func, args, kwargs) if opens else func(*args, **kwargs)
        out = func(*args, **kwargs)
        self.flops += formula(*args, **kwargs, out_val=out)
        return out

    def _opened(self, func: Any, args: Any, kwargs: Any) -> Any:
        with self:
            out = func.decompose(*args, **kwargs)
        return func(*args, **kwargs) if out is NotImplemented else out


@contextmanager
def countable_kernels(model: nn.Module) -> Iterator[None]:
    """Within this context kernels do the same work for every mask, except what autograd leaves out.

    Attention's fast path is off: it is taken only where nothing requires grad, and its FLOPs are
    not counted. oneDNN's LSTM is off too: it always computes every gradient, and keeps a workspace
    of its own. ATen's LSTM, like cuDNN's, leaves out the gradients of frozen weights.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    recurrent = any(isinstance(module, nn.LSTM) for module in model.modules())
    try:
        with (
            torch.backends.mkldnn.flags(enabled=False, allow_tf32=False)
            if recurrent
            else nullcontext()
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
