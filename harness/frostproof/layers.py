"""Layer specs: one layer of a network as immutable data.

A spec holds only what its own shape needs (`Linear(3)` is "to 3 features"); what comes in is inferred from the layer
before, so that a sequence of specs fits by construction. Shapes are those of one sample, without the batch dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import msgspec

from frostproof.errors import CaseError

if TYPE_CHECKING:
    from torch import nn

Size = Annotated[int, msgspec.Meta(ge=1, le=4096)]
"""A number of features, channels, groups, rows: bounded, so that a case from a file cannot ask for all memory."""

Shape = tuple[Size, ...]


class ParameterSpec(NamedTuple):
    """A parameter before it exists: its dotted name in the network, its shape, and whether its gradient is sparse."""

    name: str
    shape: Shape
    sparse: bool = False


class Constructor(NamedTuple):
    """The `torch.nn` call that builds a layer: `nn.<name>(*args, **kwargs)`."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})
    takes_factory: bool = True  # accepts device= and dtype=

    def __str__(self) -> str:
        words = [repr(a) for a in self.args] + [f"{key}={value!r}" for key, value in self.kwargs.items()]
        return f"nn.{self.name}({', '.join(words)})"


class Layer(msgspec.Struct, frozen=True, tag_field="kind", tag=True, forbid_unknown_fields=True):
    """What every layer spec can say of itself, given the shape of one sample that it receives.

    `overwritable` tells whether an in-place activation may follow: True where the output is a fresh tensor that
    backward does not need, False where backward needs it, None where the layer may hand its input through.
    """

    overwritable: ClassVar[bool | None] = True
    needs_many: ClassVar[bool] = False  # raises in train mode on one value per channel
    random_affine: ClassVar[bool] = False  # torch starts it at ones and zeros, which hide a stray weight decay

    def output(self, shape: Shape) -> Shape:
        """The shape of one sample after this layer. Raises CaseError where the layer cannot take `shape`."""
        return shape

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        """The layer's parameters in torch's own order, names relative to the layer."""
        return ()

    def constructor(self, shape: Shape) -> Constructor:
        raise NotImplementedError

    def fitted(self, shape: Shape) -> Layer:
        """The nearest spec of this kind that can take `shape`."""
        return self

    def build(self, shape: Shape, device: str, dtype: Any) -> nn.Module:
        from torch import nn

        name, args, kwargs, takes_factory = self.constructor(shape)
        module: nn.Module
        if not takes_factory:
            module = getattr(nn, name)(*args, **kwargs)
            return module
        module = getattr(nn, name)(*args, **kwargs, device=device, dtype=dtype)
        if self.random_affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.bias, 0.25, 0.75)  # type: ignore[arg-type]
        return module


def _need(rank: int, layer: Layer, shape: Shape) -> None:
    if len(shape) != rank:
        raise CaseError(f"{layer!r} takes samples of {rank} dimensions, and receives {shape}: insert or drop a Flatten")


class Linear(Layer, frozen=True):
    out_features: Size
    bias: bool = True

    def output(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.out_features)

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        weight = ParameterSpec("weight", (self.out_features, shape[-1]))
        return (weight, ParameterSpec("bias", (self.out_features,))) if self.bias else (weight,)

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("Linear", (shape[-1], self.out_features), {} if self.bias else {"bias": False})


class _Conv(Layer, frozen=True):
    """A convolution whose padding keeps every size at one or more: kernels are odd, padding is half of them."""

    out_channels: Size
    kernel_size: Size = 1
    stride: Size = 1
    bias: bool = True
    spatial: ClassVar[int] = 0

    def output(self, shape: Shape) -> Shape:
        _need(self.spatial + 1, self, shape)
        if self.kernel_size % 2 == 0:
            raise CaseError(f"{self!r} has an even kernel: use an odd kernel_size")
        return (self.out_channels, *((size - 1) // self.stride + 1 for size in shape[1:]))

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        weight = ParameterSpec("weight", (self.out_channels, shape[0], *(self.kernel_size,) * self.spatial))
        return (weight, ParameterSpec("bias", (self.out_channels,))) if self.bias else (weight,)

    def constructor(self, shape: Shape) -> Constructor:
        options: dict[str, Any] = {}
        if self.stride != 1:
            options["stride"] = self.stride
        if self.kernel_size != 1:
            options["padding"] = self.kernel_size // 2
        if not self.bias:
            options["bias"] = False
        return Constructor(f"Conv{self.spatial}d", (shape[0], self.out_channels, self.kernel_size), options)


class Conv1d(_Conv, frozen=True):
    spatial: ClassVar[int] = 1


class Conv2d(_Conv, frozen=True):
    spatial: ClassVar[int] = 2


class _Affine(Layer, frozen=True):
    """A normalisation with a weight and a bias per feature."""

    random_affine: ClassVar[bool] = True

    def features(self, shape: Shape) -> int:
        return shape[0]

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        size = (self.features(shape),)
        return (ParameterSpec("weight", size), ParameterSpec("bias", size))


class BatchNorm1d(_Affine, frozen=True):
    needs_many: ClassVar[bool] = True

    def output(self, shape: Shape) -> Shape:
        if len(shape) not in (1, 2):
            _need(1, self, shape)
        return shape

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("BatchNorm1d", (shape[0],))


class BatchNorm2d(_Affine, frozen=True):
    needs_many: ClassVar[bool] = True

    def output(self, shape: Shape) -> Shape:
        _need(3, self, shape)
        return shape

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("BatchNorm2d", (shape[0],))


class LayerNorm(_Affine, frozen=True):
    def features(self, shape: Shape) -> int:
        return shape[-1]

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("LayerNorm", (shape[-1],))


class GroupNorm(_Affine, frozen=True):
    num_groups: Size = 1
    needs_many: ClassVar[bool] = True

    def output(self, shape: Shape) -> Shape:
        if shape[0] % self.num_groups:
            raise CaseError(f"{self!r} cannot divide {shape[0]} channels: choose a divisor of {shape[0]}")
        return shape

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("GroupNorm", (self.num_groups, shape[0]))

    def fitted(self, shape: Shape) -> Layer:
        return self if shape[0] % self.num_groups == 0 else GroupNorm(1)


class ReLU(Layer, frozen=True):
    inplace: bool = False
    overwritable: ClassVar[bool | None] = False

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("ReLU", (), {"inplace": True} if self.inplace else {}, takes_factory=False)


class Tanh(Layer, frozen=True):
    overwritable: ClassVar[bool | None] = False

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("Tanh", takes_factory=False)


class GELU(Layer, frozen=True):
    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("GELU", takes_factory=False)


class PReLU(Layer, frozen=True):
    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        return (ParameterSpec("weight", (1,)),)

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("PReLU")


class Dropout(Layer, frozen=True):
    p: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    overwritable: ClassVar[bool | None] = None

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("Dropout", (self.p,), takes_factory=False)


class Flatten(Layer, frozen=True):
    overwritable: ClassVar[bool | None] = None

    def output(self, shape: Shape) -> Shape:
        return (prod(shape),)

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("Flatten", takes_factory=False)


class Embedding(Layer, frozen=True):
    """Takes tokens, so it stands first, where the architecture's input has a vocabulary."""

    num_embeddings: Size
    embedding_dim: Size
    sparse: bool = False

    def output(self, shape: Shape) -> Shape:
        _need(1, self, shape)
        return (*shape, self.embedding_dim)

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        return (ParameterSpec("weight", (self.num_embeddings, self.embedding_dim), self.sparse),)

    def constructor(self, shape: Shape) -> Constructor:
        options = {"sparse": True} if self.sparse else {}
        return Constructor("Embedding", (self.num_embeddings, self.embedding_dim), options)


class Sequential(Layer, frozen=True):
    """Layers inside a layer, as in `nn.Sequential`."""

    layers: tuple[AnyLayer, ...]

    def output(self, shape: Shape) -> Shape:
        for layer in self.layers:
            shape = layer.output(shape)
        return shape

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        found = []
        for index, layer in enumerate(self.layers):
            found += [p._replace(name=f"{index}.{p.name}") for p in layer.parameters(shape)]
            shape = layer.output(shape)
        return tuple(found)

    def build(self, shape: Shape, device: str, dtype: Any) -> nn.Module:
        from torch import nn

        modules = []
        for layer in self.layers:
            modules.append(layer.build(shape, device, dtype))
            shape = layer.output(shape)
        return nn.Sequential(*modules)


AnyLayer = (
    Linear
    | Conv1d
    | Conv2d
    | BatchNorm1d
    | BatchNorm2d
    | LayerNorm
    | GroupNorm
    | ReLU
    | Tanh
    | GELU
    | PReLU
    | Dropout
    | Flatten
    | Embedding
    | Sequential
)
"""Every layer kind, as msgspec's tagged union: a new kind is a class above and a line here."""
