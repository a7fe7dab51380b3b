"""Tensors as bytes, so that equality is bitwise: NaN equals itself, and -0.0 differs from 0.0."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from ctypes import string_at
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from frostproof.training.observation import Bits

_ALIKE = False
_WHOLE = (Tensor, nn.Parameter)


@contextmanager
def nans_alike(alike: bool = True) -> Iterator[None]:
    """Within this context every NaN has the same bits.

    Where an operation combines NaNs, the processor chooses the payload that survives.
    """
    global _ALIKE
    before, _ALIKE = _ALIKE, alike
    try:
        yield
    finally:
        _ALIKE = before


def nans_are_alike() -> bool:
    """Whether this is such a context."""
    return _ALIKE


def bits(tensor: Tensor) -> Bits:
    """The values of `tensor` as bytes, by rows; of a sparse one, its indices and values.

    Of a DTensor they are those of this rank's shard.
    """
    if type(tensor) not in _WHOLE:
        tensor = shard_of(tensor)
    if _ALIKE and tensor.is_floating_point() and tensor.layout is torch.strided:
        tensor = tensor.detach().where(~tensor.isnan(), math.nan)
    # Reading the memory itself costs 1 us, a tenth of a copy of a small tensor by torch.
    if tensor.is_cpu and tensor.layout is torch.strided and tensor.is_contiguous():
        return string_at(tensor.data_ptr(), tensor.nbytes)
    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.coalesce()
        return bits(tensor.indices()) + bits(tensor.values())
    return bits(tensor.cpu().contiguous())


def shard_of(tensor: Tensor) -> Tensor:
    """What this rank holds of a DTensor; any other tensor as it is."""
    to_local: Callable[[], Tensor] | None = getattr(tensor.detach(), "to_local", None)
    return tensor if to_local is None else to_local()


def bits_of(tensors: Iterable[Tensor]) -> tuple[Bits, ...]:
    return tuple([bits(tensor) for tensor in tensors])


def gradient_bits(parameters: Iterable[Tensor]) -> tuple[Bits | None, ...]:
    """The bits of each parameter's `.grad`, None where none is allocated."""
    return tuple(
        [None if (grad := parameter.grad) is None else bits(grad) for parameter in parameters]
    )


_PLAIN = (int, float, str, bytes, complex, type(None))


def _name_of_type(value: Any) -> Bits:
    return type(value).__name__.encode()


def fingerprint(value: Any, of_object: Callable[[Any], Bits] = _name_of_type) -> Bits:
    """The values in a nested state of dicts, lists, tensors and numbers, as bytes.

    Of any other value it has what `of_object` says, by default the name of the type.
    """
    if isinstance(value, _PLAIN):
        return repr(value).encode()
    if isinstance(value, Tensor):
        return b"tensor" + bits(value)
    if isinstance(value, Mapping):
        items = (
            repr(key).encode() + b":" + fingerprint(item, of_object) for key, item in value.items()
        )
        return b"{" + b",".join(sorted(items)) + b"}"  # the order of its keys is not a value
    if isinstance(value, list | tuple | deque):
        return b"[" + b",".join([fingerprint(item, of_object) for item in value]) + b"]"
    return of_object(value)


_STATES: dict[str, Callable[[Any], Any]] = {
    "torch._C.Generator": lambda value: value.get_state(),
    "random.Random": lambda value: value.getstate(),
    "numpy.random.mtrand.RandomState": lambda value: value.get_state(),
    "numpy.random._generator.Generator": lambda value: value.bit_generator.state,
    "numpy.ndarray": lambda value: value.tobytes(),
}
"""The name of a class -> the state of its objects, which is not in their attributes."""


def fingerprint_of_object(value: Any, within: tuple[int, ...] = ()) -> Bits:
    """The state of a generator of random numbers, an array, or the attributes of an object.

    `within`: the ids of the objects that hold it. One of them again is only named.
    """
    name = _name_of_type(value)
    kinds = {f"{each.__module__}.{each.__qualname__}" for each in type(value).__mro__}
    for kind, state in _STATES.items():
        if kind in kinds:
            return name + fingerprint(state(value), fingerprint_of_object)
    own = getattr(value, "__dict__", None)
    if not isinstance(own, dict) or isinstance(value, ModuleType) or id(value) in within:
        return name
    return name + fingerprint(own, partial(fingerprint_of_object, within=(*within, id(value))))


def tensors_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """The tensors in a nested state of dicts and lists, each with the keys that lead to it."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors_in(item, (*path, key))
    elif isinstance(value, list | tuple | deque):
        for key, item in enumerate(value):
            yield from tensors_in(item, (*path, key))


def added(left: Bits, right: Bits, dtype: str) -> Bits:
    """The bits of left + right, added in `dtype` (a torch dtype's name)."""
    kind = getattr(torch, dtype)
    return bits(tensor_of(left, kind) + tensor_of(right, kind))


def tensor_of(data: Bits, dtype: torch.dtype) -> Tensor:
    """The values of `data` as a vector; `torch.frombuffer` refuses an empty one."""
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


def values(data: Bits, dtype: str) -> list[float]:
    """The numbers that `data` holds, read as `dtype` (a torch dtype's name)."""
    numbers: list[float] = tensor_of(data, getattr(torch, dtype)).double().tolist()
    return numbers


def has_nan(data: Bits, dtype: str) -> bool:
    return any(map(math.isnan, values(data, dtype)))


def finite(data: Bits, dtype: str) -> bool:
    """Whether none of the numbers that `data` holds is infinite or NaN."""
    return all(map(math.isfinite, values(data, dtype)))


def ulp(value: float, dtype: str) -> float:
    """The unit in the last place of `value` in `dtype` (a torch dtype's name)."""
    return float(torch.finfo(getattr(torch, dtype)).eps) * 2.0 ** math.floor(
        math.log2(abs(value) or 1.0)
    )
