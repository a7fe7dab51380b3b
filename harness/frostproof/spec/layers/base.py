"""The base of the layer specs: data that knows its shapes, its parameters and its constructor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec

from frostproof.errors import CaseError

Size = Annotated[int, msgspec.Meta(ge=1, le=4096)]
"""A number of features, channels or rows, bounded so that no file can ask for all memory."""

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]

Shape = Annotated[tuple[Size, ...], msgspec.Meta(min_length=1, max_length=8)]


class ParameterSpec(NamedTuple):
    """A parameter of a network that is not built yet."""

    name: str
    """Its dotted name in the network, or in its layer."""

    shape: Shape

    sparse: bool = False
    """Whether its gradient is sparse."""

    renormed: bool = False
    """Whether the forward pass itself rewrites it."""


class Constructor(NamedTuple):
    """The call that builds a module: `nn.NAME(*args, **kwargs)`. An argument may be such a call."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})

    takes_factory: bool = True
    """Whether the module has the arguments `device` and `dtype`."""

    ours: bool = False
    """Whether the class is in frostproof.spec.layers.modules, and not in torch.nn."""

    wrapper: str = ""
    """The function of torch.nn.utils that is applied to the module."""

    def __str__(self) -> str:
        words = [str(a) if isinstance(a, Constructor) else repr(a) for a in self.args]
        words += [f"{key}={value!r}" for key, value in self.kwargs.items()]
        call = f"{'' if self.ours else 'nn.'}{self.name}({', '.join(words)})"
        return f"nn.utils.{self.wrapper}({call})" if self.wrapper else call

    def source(self, factory: Sequence[str] = ()) -> str:
        """The call, with the arguments `factory` if the module takes a device and a dtype."""
        call = str(self._replace(wrapper=""))
        if self.takes_factory and factory:
            call = f"{call[:-1]}{', ' if self.args or self.kwargs else ''}{', '.join(factory)})"
        return f"nn.utils.{self.wrapper}({call})" if self.wrapper else call


class Layer(
    msgspec.Struct,
    frozen=True,
    repr_omit_defaults=True,
    tag_field="kind",
    tag=True,
    forbid_unknown_fields=True,
):
    """A layer spec. Its methods take the shape of one sample that the layer receives."""

    overwritable: ClassVar[bool | None] = True
    """Whether an in-place activation may follow: False if backward needs the output, None if the
    layer may return its input itself."""

    autocasts: ClassVar[bool] = True
    """Whether it has a kernel for bfloat16 samples and float32 weights."""

    keeps_inputs: ClassVar[bool] = False
    """Whether it saves its inputs for backward even if its parameters are frozen."""

    random_affine: ClassVar[bool] = False
    """Whether other numbers replace its ones and zeros, which would hide a weight decay."""

    @property
    def needs_many(self) -> bool:
        """Whether it raises in train mode on one value per channel."""
        return False

    @property
    def takes_tokens(self) -> bool:
        """Whether it comes first, and the input has a vocabulary."""
        return False

    def reaches(self, upstream: bool) -> bool:
        """Whether its parameters get gradients; `upstream`: whether its input requires grad."""
        return True

    def output(self, shape: Shape) -> Shape:
        """The shape of one sample after this layer. Raises CaseError if it cannot take `shape`."""
        return shape

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        """Its parameters in the order of torch; their names are relative to the layer."""
        return ()

    def work(self, shape: Shape) -> int:
        """An upper bound on the multiplications and the saved numbers of one sample."""
        weights = sum(prod(parameter.shape) for parameter in self.parameters(shape))
        return prod(shape) + prod(self.output(shape)) + weights * self.repeats(shape)

    def repeats(self, shape: Shape) -> int:
        """An upper bound on how often one sample uses each weight."""
        return max(prod(shape), prod(self.output(shape)))

    def constructor(self, shape: Shape) -> Constructor:
        raise NotImplementedError

    def fitted(self, shape: Shape) -> Layer:
        """The nearest spec that can take `shape`, of the same kind if possible."""
        return self

    def source(self, shape: Shape, factory: Sequence[str] = ()) -> str:
        """The expression that builds the module."""
        call = self.constructor(shape).source(factory)
        return f"spread({call})" if self.random_affine else call


def need(rank: int, layer: Layer, shape: Shape) -> None:
    """Raise CaseError unless samples have `rank` dimensions."""
    if len(shape) != rank:
        raise CaseError(
            f"{layer!r} takes samples of {rank} dimensions, and receives {shape}: "
            "insert or drop a Flatten"
        )
