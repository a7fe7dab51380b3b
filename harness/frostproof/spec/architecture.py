"""A network as data: its input and its layers, in order."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, lru_cache
from math import prod
from types import CodeType
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

import msgspec

from frostproof.errors import CaseError
from frostproof.spec.layers import (
    AnyLayer,
    Checkpointed,
    Embedding,
    Layer,
    Linear,
    ParameterSpec,
    SelfAttention,
    Sequential,
    Shape,
    TiedLinear,
    TransformerEncoderLayer,
)

if TYPE_CHECKING:
    from torch import nn


# Bounds on networks from files: layers, nesting and weights. Drawn networks stay far below them.
FILE_MAX_LAYERS, FILE_MAX_DEPTH, FILE_MAX_SCALARS = 256, 16, 1_000_000


class Input(msgspec.Struct, frozen=True, repr_omit_defaults=True, forbid_unknown_fields=True):
    """One sample: floats or tokens."""

    shape: Shape
    """Its shape, without the batch dimension."""

    vocabulary: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    """Tokens are integers below it; 0 if the samples are floats."""


class Place(NamedTuple):
    """A layer at its place in the network."""

    path: str
    """Its dotted path."""

    layer: Layer

    shape: Shape
    """The shape of one sample that it receives."""

    uses: tuple[int, ...]
    """The positions in `architecture.parameters` of its parameters, shared ones included."""


class Architecture(
    msgspec.Struct,
    frozen=True,
    repr_omit_defaults=True,
    tag_field="kind",
    tag=True,
    forbid_unknown_fields=True,
    dict=True,
):
    """An `nn.Sequential` as data.

    >>> network = Architecture(Input((2,)), (Linear(3), Linear(1, bias=False)))
    >>> [parameter.name for parameter in network.parameters]
    ['0.weight', '0.bias', '1.weight']
    """

    input: Input
    """One sample."""

    layers: tuple[AnyLayer, ...]
    """The layers, in the order of the forward pass."""

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The layers in the order of the forward pass, those inside a Sequential included."""
        places: list[Place] = []
        count = 0
        for path, layer, shape in self._walk(self.layers, self.input.shape, ""):
            end = count + len(layer.parameters(shape))
            shared = (_tied(path, layer, shape, places),) if isinstance(layer, TiedLinear) else ()
            places.append(Place(path, layer, shape, (*shared, *range(count, end))))
            count = end
        return tuple(places)

    @cached_property
    def parameters(self) -> tuple[ParameterSpec, ...]:
        """The parameters in the order of `model.named_parameters()`."""
        return tuple(
            parameter._replace(name=f"{place.path}.{parameter.name}")
            for place in self.places
            for parameter in place.layer.parameters(place.shape)
        )

    @cached_property
    def output(self) -> Shape:
        """The shape of one sample after the last layer."""
        return self.places[-1].layer.output(self.places[-1].shape)

    def _walk(
        self, layers: tuple[Layer, ...], shape: Shape, prefix: str
    ) -> Iterator[tuple[str, Layer, Shape]]:
        for index, layer in enumerate(layers):
            path, after = f"{prefix}{index}", layer.output(shape)
            if isinstance(layer, Sequential):
                yield from self._walk(layer.layers, shape, f"{path}.")
            else:
                yield path, layer, shape
            shape = after

    @cached_property
    def cuts(self) -> bool:
        """Whether some layer gets gradients only if its input requires grad."""
        return not all(place.layer.reaches(False) for place in self.places)

    knows_layers: ClassVar[bool] = True
    """Whether what each layer does is known."""

    imports: ClassVar[tuple[str, ...]] = ()
    """The statements that import what those of `source` use."""

    @cached_property
    def needs_many(self) -> bool:
        """Whether some layer raises in train mode on one value per channel."""
        return any(place.layer.needs_many for place in self.places)

    @cached_property
    def tokens(self) -> bool:
        """Whether the samples are tokens."""
        return self.input.vocabulary > 0

    @cached_property
    def attends(self) -> bool:
        """Whether some layer has attention."""
        attention = (SelfAttention, TransformerEncoderLayer)
        return any(isinstance(place.layer, attention) for place in self.places)

    @cached_property
    def copies_input(self) -> bool:
        """Whether samples that require grad are copied, as the first layer may overwrite them."""
        return self.places[0].layer.overwritable is False

    @cached_property
    def autocasts(self) -> bool:
        """Whether every layer can run under autocast."""
        return all(place.layer.autocasts for place in self.places)

    @cached_property
    def recomputes(self) -> bool:
        """Whether backward runs part of the forward pass again."""
        return any(isinstance(place.layer, Checkpointed) for place in self.places)

    def graph(self, frozen: Collection[int], upstream: bool) -> tuple[bool, ...]:
        """For each place whether its output requires grad.

        `frozen` has the positions of the parameters with requires_grad=False; `upstream` tells
        whether the samples require grad.
        """
        outputs = []
        for place in self.places:
            trains = any(i not in frozen for i in place.uses)
            upstream = upstream or (trains and place.layer.reaches(upstream))
            outputs.append(upstream)
        return tuple(outputs)

    def reached(self, frozen: Collection[int], upstream: bool) -> frozenset[int]:
        """Positions of the parameters that get a gradient; the arguments are those of `graph`."""
        inputs = (upstream, *self.graph(frozen, upstream))
        return frozenset(
            i
            for place, requires_grad in zip(self.places, inputs, strict=False)
            if place.layer.reaches(requires_grad)
            for i in place.uses
            if i not in frozen
        )

    def check(self) -> None:
        """Raise CaseError, one line, if torch cannot build the network, or it is too large."""
        self._check_count()
        if not self.layers or not self.parameters:
            raise CaseError(
                "the architecture has no parameter: add a layer that has one, such as Linear(1)"
            )
        if (
            scalars := sum(prod(parameter.shape) for parameter in self.parameters)
        ) > FILE_MAX_SCALARS:
            raise CaseError(
                f"the architecture has {scalars:,} weights: "
                f"at most {FILE_MAX_SCALARS:,} are allowed"
            )
        for place in self.places:
            tokens = place is self.places[0] and self.input.vocabulary > 0
            if tokens != place.layer.takes_tokens:
                raise CaseError(
                    f"layer {place.path} is {place.layer!r}: "
                    "an Embedding comes first, and its Input has a vocabulary"
                )

    def _check_count(self) -> None:
        """Count layers and nesting without recursion, which a file could make too deep."""
        level: list[Layer] = list(self.layers)
        count = depth = 0
        while level:
            count, depth = count + len(level), depth + 1
            if count > FILE_MAX_LAYERS or depth > FILE_MAX_DEPTH:
                raise CaseError(
                    f"the architecture is too large: at most {FILE_MAX_LAYERS} layers are allowed, "
                    f"nested at most {FILE_MAX_DEPTH} deep"
                )
            level = [inner for layer in level for inner in getattr(layer, "layers", ())]

    @cached_property
    def work(self) -> int:
        """An upper bound on the multiplications and the saved numbers of one sample."""
        return sum(place.layer.work(place.shape) for place in self.places)

    def source(self, device: str = "cpu", dtype: str = "float32") -> tuple[str, ...]:
        """The statements that build `model`, initialised from torch's global generator.

        >>> Architecture(Input((2,)), (Linear(3), Linear(1))).source()
        ('model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))',)
        """
        factory = ([] if device == "cpu" else [f'device="{device}"']) + (
            [] if dtype == "float32" else [f"dtype=torch.{dtype}"]
        )
        network = Sequential(self.layers).source(self.input.shape, factory).replace("'", '"')
        ties = []
        for place in self.places:
            if isinstance(place.layer, TiedLinear):
                tied, owner = expression(place.path), expression(self.places[place.layer.of].path)
                ties.append(f"{tied}.weight = {owner}.weight  # tied")
        return (f"model = {network}", *ties)

    def build(self, device: str, dtype: str) -> nn.Sequential:
        """The network on a device such as `cpu`, in a dtype such as `float32`.

        Its weights are drawn from torch's generator.
        """
        return build_network(self.source(device, dtype))

    def batch(
        self, size: int, device: str = "cpu", dtype: str = "float32", ranks: int = 1
    ) -> tuple[str, str]:
        """Expressions that draw `size` random samples and their regression targets.

        Their shapes are `(size, *input.shape)` and `(size, *output)`. They are drawn on the CPU, so
        that every device gets the same numbers. Of several ranks, each takes its share of a batch
        for all.
        """
        kind = "" if dtype == "float32" else f", dtype=torch.{dtype}"
        there = "" if device == "cpu" else f'.to("{device}")'
        share = f".chunk({ranks})[torch.distributed.get_rank()]" if ranks > 1 else ""
        shape, target = (
            ", ".join(map(str, (size * ranks, *each))) for each in (self.input.shape, self.output)
        )
        samples = f"torch.randn({shape}{kind}){there}"
        if self.input.vocabulary:
            samples = f"torch.randint({self.input.vocabulary}, ({shape})){there}"
        return f"{samples}{share}", f"torch.randn({target}{kind}){there}{share}"

    def outputs(self, samples: str, called: str = "model") -> str:
        """The expression for the outputs. `called`: the model, or what wraps it."""
        return f"{called}({samples})"

    def loss(self, outputs: str, called: str = "model") -> str:
        """The expression for the loss of these outputs."""
        return f"nn.functional.mse_loss({outputs}, y)"


def expression(name: str) -> str:
    """The Python expression of a module or parameter with this dotted name.

    >>> expression("1.0.weight")
    'model[1][0].weight'
    """
    return "model" + "".join(
        f"[{part}]" if part.isdigit() else f".{part}" for part in name.split(".") if part
    )


@lru_cache(maxsize=256)
def _compile_network(source: tuple[str, ...]) -> CodeType:
    return compile("\n".join(source), "<network>", "exec")


def build_network(source: tuple[str, ...]) -> nn.Sequential:
    """Execute statements from `Architecture.source`, and return the `model` that they build."""
    import torch
    from torch import nn

    from frostproof.spec.layers import modules

    names = {**vars(modules), "nn": nn, "torch": torch}
    with warnings.catch_warnings():
        # torch.nn.utils.weight_norm and spectral_norm are deprecated, and in wide use.
        warnings.simplefilter("ignore", FutureWarning)
        exec(_compile_network(source), names)
    model: nn.Sequential = names["model"]
    return model


def _tied(path: str, layer: TiedLinear, shape: Shape, earlier: Sequence[Place]) -> int:
    """The position of the weight that `layer` shares. Raises CaseError if it does not fit."""
    if layer.of >= len(earlier):
        raise CaseError(
            f"layer {path} is {layer!r}: "
            f"choose the number of an earlier layer, below {len(earlier)}"
        )
    source = earlier[layer.of]
    wanted = (layer.out_features, shape[-1])
    if (
        not isinstance(source.layer, (Linear, Embedding))
        or wanted != (weight := source.layer.parameters(source.shape)[0]).shape
    ):
        raise CaseError(
            f"layer {path} is {layer!r}: "
            f"layer {source.path} has no weight of shape {wanted} to share"
        )
    if weight.sparse:
        raise CaseError(
            f"layer {path} is {layer!r}: layer {source.path} has a sparse gradient, "
            "and the sum of both would be dense"
        )
    return source.uses[0]
