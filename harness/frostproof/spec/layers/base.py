"""What every layer spec is: a piece of data that knows its shapes, its parameters and the call that builds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec

from frostproof.errors import CaseError

Size = Annotated[int, msgspec.Meta(ge=1, le=4096)]
"""A number of features, channels, groups, rows: bounded, so that a case from a file cannot ask for all memory."""

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]

Shape = Annotated[tuple[Size, ...], msgspec.Meta(min_length=1, max_length=8)]


class ParameterSpec(NamedTuple):
    """A parameter before it exists: its dotted name in the network, its shape, whether its gradient is sparse, and
    whether the forward pass itself rewrites it."""

    name: str
    shape: Shape
    sparse: bool = False
    renormed: bool = False


class Constructor(NamedTuple):
    """The call that builds a module: `nn.<name>(*args, **kwargs)`, where an argument may be such a call itself."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})
    takes_factory: bool = True  # accepts device= and dtype=
    ours: bool = False  # the class is in frostproof.spec.layers.modules, not in torch.nn
    wrapper: str = ""  # the function in torch.nn.utils that the module then goes through

    def __str__(self) -> str:
        words = [str(a) if isinstance(a, Constructor) else repr(a) for a in self.args]
        words += [f"{key}={value!r}" for key, value in self.kwargs.items()]
        call = f"{'' if self.ours else 'nn.'}{self.name}({', '.join(words)})"
        return f"nn.utils.{self.wrapper}({call})" if self.wrapper else call

    def source(self, factory: Sequence[str] = ()) -> str:
        """The same call with the keyword arguments `factory` where the module takes a device and a dtype."""
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
    """What every layer spec can say of itself, given the shape of one sample that it receives.

    `overwritable` tells whether an in-place activation may follow: True where the output is a fresh tensor that
    backward does not need, False where backward needs it, None where the layer may hand its input through.
    """

    overwritable: ClassVar[bool | None] = True
    autocasts: ClassVar[bool] = True  # has a kernel for bfloat16 samples and float32 weights
    keeps_inputs: ClassVar[bool] = False  # keeps its inputs for backward, whatever is frozen
    random_affine: ClassVar[bool] = (
        False  # torch starts it at ones and zeros, which hide a stray weight decay
    )

    @property
    def needs_many(self) -> bool:
        """Whether it raises in train mode on one value per channel."""
        return False

    @property
    def takes_tokens(self) -> bool:
        """Whether it stands first, on an input with a vocabulary."""
        return False

    def reaches(self, upstream: bool) -> bool:
        """Whether backward gets to this layer's own parameters; `upstream`: whether the layer's input requires grad."""
        return True

    def output(self, shape: Shape) -> Shape:
        """The shape of one sample after this layer. Raises CaseError where the layer cannot take `shape`."""
        return shape

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        """The layer's parameters in torch's own order, names relative to the layer."""
        return ()

    def work(self, shape: Shape) -> int:
        """An upper bound, for one sample, on the multiplications of a forward pass and on the numbers that it keeps."""
        weights = sum(prod(parameter.shape) for parameter in self.parameters(shape))
        return prod(shape) + prod(self.output(shape)) + weights * self.repeats(shape)

    def repeats(self, shape: Shape) -> int:
        """How often, at most, each weight is used for one sample."""
        return max(prod(shape), prod(self.output(shape)))

    def constructor(self, shape: Shape) -> Constructor:
        raise NotImplementedError

    def fitted(self, shape: Shape) -> Layer:
        """The nearest spec that can take `shape`: of this kind, where any can."""
        return self

    def source(self, shape: Shape, factory: Sequence[str] = ()) -> str:
        """The expression that builds the module. Norms and biases of attention start away from ones and zeros."""
        call = self.constructor(shape).source(factory)
        return f"spread({call})" if self.random_affine else call


def need(rank: int, layer: Layer, shape: Shape) -> None:
    """Raise CaseError unless samples have `rank` dimensions."""
    if len(shape) != rank:
        raise CaseError(
            f"{layer!r} takes samples of {rank} dimensions, and receives {shape}: insert or drop a Flatten"
        )
