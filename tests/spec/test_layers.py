"""Each layer kind alone: data, parameters and arithmetic are as stated, frozen or not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import msgspec
import pytest
import torch
from torch import Tensor, nn

from frostproof.optimizers.torch_version import torch_is
from frostproof.process.fence import fenced
from frostproof.spec import layers
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.layers import (
    GELU,
    GRU,
    LSTM,
    AdaptiveAvgPool2d,
    AnyLayer,
    AvgPool1d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Checkpointed,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    Dropout,
    Embedding,
    EmbeddingBag,
    Flatten,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    LayerNorm,
    Linear,
    LoRALinear,
    MaxPool1d,
    MaxPool2d,
    PReLU,
    ReLU,
    Residual,
    RMSNorm,
    SelfAttention,
    Sequential,
    SpectralNormLinear,
    Tanh,
    TiedLinear,
    TransformerEncoderLayer,
    WeightNormLinear,
)
from tests.helpers.models import batch as drawn_batch

VECTOR, SEQUENCE, IMAGE, TOKENS = (
    Input((3,)),
    Input((3, 4)),
    Input((2, 4, 4)),
    Input((3,), vocabulary=5),
)

ALONE: tuple[tuple[Input, AnyLayer], ...] = (
    (VECTOR, Linear(2)),
    (SEQUENCE, Linear(2, bias=False)),
    (VECTOR, LoRALinear(2)),
    (SEQUENCE, LoRALinear(4, rank=2)),
    (VECTOR, LoRALinear(2, rank=0)),
    *((VECTOR, WeightNormLinear(3, legacy)) for legacy in (False, True)),
    *((SEQUENCE, WeightNormLinear(2, legacy)) for legacy in (False, True)),
    *((VECTOR, SpectralNormLinear(3, legacy)) for legacy in (False, True)),
    *((SEQUENCE, SpectralNormLinear(2, legacy)) for legacy in (False, True)),
    (SEQUENCE, Conv1d(2, 3, stride=2)),
    (IMAGE, Conv2d(3, 3, bias=False)),
    (SEQUENCE, ConvTranspose1d(2, 3)),
    (SEQUENCE, ConvTranspose1d(3, 5, stride=2, bias=False)),
    (IMAGE, ConvTranspose2d(3)),
    (IMAGE, ConvTranspose2d(2, 3, stride=2)),
    (VECTOR, BatchNorm1d()),
    (IMAGE, BatchNorm2d()),
    (SEQUENCE, InstanceNorm1d()),
    (IMAGE, InstanceNorm2d()),
    (SEQUENCE, LayerNorm()),
    (SEQUENCE, RMSNorm()),
    (IMAGE, GroupNorm(2)),
    (VECTOR, ReLU()),
    (VECTOR, Tanh()),
    (VECTOR, GELU()),
    (VECTOR, PReLU()),
    (VECTOR, Dropout()),
    (IMAGE, Flatten()),
    (SEQUENCE, MaxPool1d()),
    (IMAGE, MaxPool2d()),
    (SEQUENCE, AvgPool1d()),
    (IMAGE, AvgPool2d()),
    (IMAGE, AdaptiveAvgPool2d()),
    (IMAGE, AdaptiveAvgPool2d(3)),
    (SEQUENCE, LSTM(2)),
    (SEQUENCE, LSTM(3)),
    (SEQUENCE, GRU(2)),
    (SEQUENCE, GRU(3)),
    (SEQUENCE, SelfAttention()),
    (SEQUENCE, SelfAttention(2)),
    (SEQUENCE, TransformerEncoderLayer()),
    (SEQUENCE, TransformerEncoderLayer(2, 3, dropout=0.2)),
    (TOKENS, Embedding(5, 3)),
    (TOKENS, Embedding(5, 3, sparse=True)),
    (TOKENS, Embedding(5, 3, max_norm=0.5)),
    *(
        (TOKENS, EmbeddingBag(5, 3, mode, sparse))
        for mode in ("sum", "mean")
        for sparse in (False, True)
    ),
    (VECTOR, Sequential((Linear(2), Sequential((Tanh(), Linear(3)))))),
    (SEQUENCE, Residual((LayerNorm(), Linear(3), GELU(), Linear(4)))),
    (IMAGE, Residual((Conv2d(2, 3), BatchNorm2d()))),
    *(
        (SEQUENCE, Checkpointed((Linear(3), Dropout(), Tanh(), Linear(2)), reentrant))
        for reentrant in (False, True)
    ),
    (TOKENS, Checkpointed((Embedding(5, 2), Linear(2)))),
)
"""Each kind, in an architecture of its own."""

OVERWRITABLE = [
    (given, layer)
    for given, layer in ALONE
    if layer.overwritable and not isinstance(layer, Sequential)
]

TIED = Architecture(
    TOKENS,
    (Embedding(5, 3), Tanh(), TiedLinear(5), GELU(), Linear(5), TiedLinear(5, of=4, bias=False)),
)


def around(given: Input, layer: AnyLayer) -> Architecture:
    """A network with parameters before and after `layer`, which can be frozen too."""
    before = () if given.vocabulary else (Linear(given.shape[-1]),)
    return Architecture(given, (*before, layer, Linear(2)))


NETWORKS = (*(around(given, layer) for given, layer in ALONE), TIED)
IDS = [
    repr(architecture.layers[0 if architecture.input.vocabulary else 1])
    for architecture in NETWORKS[:-1]
] + ["TIED"]
ONE_LONG = tuple(
    Architecture(Input((1, 4)), (layer, Linear(2)))
    for layer in (LSTM(3), GRU(3), SelfAttention(2), TransformerEncoderLayer(2, 3))
)
"""Sequences of length 1."""
ONE_LONG_IDS = [f"{architecture.layers[0]} of length 1" for architecture in ONE_LONG]
each_network = pytest.mark.parametrize("architecture", NETWORKS, ids=IDS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])


def leaves(found: tuple[AnyLayer, ...]) -> Iterator[type]:
    for layer in found:
        yield type(layer)
        yield from leaves(getattr(layer, "layers", ()))


def test_every_kind_is_here() -> None:
    assert set(
        chain.from_iterable(leaves(architecture.layers) for architecture in NETWORKS)
    ) == set(AnyLayer.__args__)


@pytest.fixture(autouse=True)
def _fenced_and_no_fused_attention() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with fenced("cpu"):
        yield
    torch.backends.mha.set_fastpath_enabled(before)


def built(architecture: Architecture, dtype: str = "float32") -> nn.Sequential:
    torch.manual_seed(1)
    return architecture.build("cpu", dtype)


def run(
    architecture: Architecture,
    dtype: str,
    frozen: frozenset[int],
    upstream: bool,
    train: bool = True,
    batch: int = 2,
) -> tuple[Tensor, list[Tensor | None], Tensor | None]:
    """Output, gradients of parameters and of samples, in a second pass: buffers may change once."""
    model = built(architecture, dtype).train(train)
    parameters = list(model.parameters())
    for i in frozen:
        parameters[i].requires_grad_(False)
    for seed in range(2):
        torch.manual_seed(seed)
        samples, targets = drawn_batch(architecture, batch, dtype)
        samples.requires_grad_(upstream)
        model.zero_grad()
        output = model(samples)
        loss = nn.functional.mse_loss(output, targets)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    return output.detach(), [parameter.grad for parameter in parameters], samples.grad


def same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    a, b = (t.to_dense() if t.is_sparse else t for t in (a, b))
    return a.shape == b.shape and bool(
        (a.contiguous().view(torch.uint8) == b.contiguous().view(torch.uint8)).all()
    )


@each_network
def test_json_and_repr_give_back_an_equal_layer(architecture: Architecture) -> None:
    for layer in architecture.layers:
        assert msgspec.json.decode(msgspec.json.encode(layer), type=AnyLayer) == layer
        assert eval(repr(layer), vars(layers)) == layer


@each_network
@each_dtype
def test_parameters_and_shapes_are_those_of_torch(architecture: Architecture, dtype: str) -> None:
    architecture.check()
    model = built(architecture, dtype)
    assert [(name, tuple(p.shape)) for name, p in model.named_parameters()] == [
        (p.name, p.shape) for p in architecture.parameters
    ]
    samples, targets = drawn_batch(architecture, 2, dtype)
    output = model(samples)
    assert output.shape == targets.shape
    assert output.dtype == getattr(torch, dtype)
    for place in architecture.places:
        assert model.get_submodule(place.path)


@pytest.mark.parametrize("architecture", [*NETWORKS, *ONE_LONG], ids=(*IDS, *ONE_LONG_IDS))
@pytest.mark.parametrize("rows", [1, 2])
def test_outputs_have_the_strides_of_a_contiguous_tensor(
    architecture: Architecture, rows: int
) -> None:
    """By other strides `linear` chooses another kernel where its weight is frozen."""
    x, _ = drawn_batch(architecture, rows, "float32")
    for module in built(architecture).eval():
        x = module(x)
        assert x.stride() == torch.empty(x.shape).stride(), module


@each_network
def test_no_weight_starts_at_zero_or_one_where_a_stray_decay_would_not_show(
    architecture: Architecture,
) -> None:
    for name, parameter in built(architecture).named_parameters():
        assert bool(((parameter != 0) & (parameter != 1)).all()), name


@each_network
@each_dtype
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_freezing_a_parameter_changes_no_bit_of_the_output_and_of_other_gradients(
    architecture: Architecture, dtype: str, train: bool
) -> None:
    everything = frozenset(range(len(architecture.parameters)))
    masks = {
        everything,
        *(frozenset({i}) for i in everything),
        *(everything - {i} for i in everything),
    }
    for upstream in (True, False) if train and not architecture.input.vocabulary else (False,):
        output, gradients, below = run(architecture, dtype, frozenset(), upstream, train)
        for frozen in masks:
            changed, found, found_below = run(architecture, dtype, frozen, upstream, train)
            assert same(output, changed), f"the output, with {frozen} frozen"
            assert same(below, found_below), f"the gradient of the samples, with {frozen} frozen"
            for i in architecture.reached(frozen, upstream):
                assert same(gradients[i], found[i]), (
                    f"{architecture.parameters[i].name}, with {frozen} frozen"
                )


@each_network
def test_graph_and_reached_are_what_autograd_does(architecture: Architecture) -> None:
    count = len(architecture.parameters)
    for upstream in (False,) if architecture.input.vocabulary else (True, False):
        for bits in (
            range(1 << count)
            if count < 6
            else (0, (1 << count) - 1, *(1 << i for i in range(count)), 21, 42)
        ):
            frozen = frozenset(i for i in range(count) if bits >> i & 1)
            model = built(architecture)
            seen: list[bool] = []
            for place in architecture.places:
                model.get_submodule(place.path).register_forward_hook(
                    lambda _, __, output, seen=seen: seen.append(output.requires_grad)
                )
            for i, parameter in enumerate(model.parameters()):
                parameter.requires_grad_(i not in frozen)
            samples, targets = drawn_batch(architecture)
            loss = nn.functional.mse_loss(model(samples.requires_grad_(upstream)), targets)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            # Recomputation runs the hooks of inner modules again: only the first ones count.
            assert tuple(seen[: len(architecture.places)]) == architecture.graph(frozen, upstream)
            assert {
                i for i, p in enumerate(model.parameters()) if p.grad is not None
            } == architecture.reached(frozen, upstream)


@each_network
def test_gradients_are_sparse_and_weights_rewritten_where_the_spec_says_so(
    architecture: Architecture,
) -> None:
    model = built(architecture)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    samples, targets = drawn_batch(architecture)
    nn.functional.mse_loss(model(samples), targets).backward()  # type: ignore[no-untyped-call]
    for spec, parameter, old in zip(
        architecture.parameters, model.parameters(), before, strict=True
    ):
        if (gradient := parameter.grad) is not None:
            assert gradient.is_sparse == spec.sparse
        assert same(parameter.detach(), old) != spec.renormed


@pytest.mark.parametrize(
    ("given", "layer"), OVERWRITABLE, ids=[repr(layer) for _, layer in OVERWRITABLE]
)
@each_dtype
def test_an_in_place_activation_may_follow_where_the_spec_says_so(
    given: Input, layer: AnyLayer, dtype: str
) -> None:
    """It raises nothing, and gives the gradients of one that is not in place."""
    before = () if given.vocabulary else (Linear(given.shape[-1]), Linear(given.shape[-1]))
    networks = [
        Architecture(given, (*before, layer, ReLU(inplace), Linear(2))) for inplace in (True, False)
    ]
    for train in (True, False):
        for batch in (2,) if layer.needs_many else (1, 2):
            here, there = (
                run(network, dtype, frozenset(), False, train, batch) for network in networks
            )
            assert same(here[0], there[0])
            assert all(map(same, here[1], there[1]))


BEFORE_2_15 = pytest.mark.skipif(
    torch_is(">=2.15"), reason="torch 2.15 lets the output of a reentrant segment be overwritten"
)


@pytest.mark.parametrize(
    "layer",
    [Tanh(), pytest.param(Checkpointed((Linear(2),), reentrant=True), marks=BEFORE_2_15)],
)
def test_an_in_place_activation_raises_where_backward_needs_what_it_overwrites(
    layer: AnyLayer,
) -> None:
    assert layer.overwritable is False
    with pytest.raises(RuntimeError, match="inplace"):
        run(
            Architecture(SEQUENCE, (Linear(4), layer, ReLU(inplace=True))),
            "float32",
            frozenset(),
            False,
        )


def test_tied_layers_share_one_parameter() -> None:
    model = built(TIED)
    assert model.get_submodule("2").weight is model.get_submodule("0").weight
    assert model.get_submodule("5").weight is model.get_submodule("4").weight
    assert [place.uses for place in TIED.places] == [(0,), (), (0, 1), (), (2, 3), (2,)]


def test_a_reentrant_segment_is_detached_where_nothing_before_it_requires_grad() -> None:
    architecture = Architecture(
        VECTOR, (Linear(2), Checkpointed((Linear(2),), reentrant=True), Linear(1))
    )
    assert architecture.graph({0, 1}, upstream=False) == (False, False, True)
    assert architecture.reached({0, 1}, upstream=False) == {4, 5}
    assert architecture.reached({0, 1}, upstream=True) == {2, 3, 4, 5}
