"""What layer specs say without being built: errors, nearest specs and constructors."""

from __future__ import annotations

import pytest

from frostproof.errors import CaseError
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.layers import (
    LSTM,
    AnyLayer,
    Checkpointed,
    Conv2d,
    ConvTranspose1d,
    Embedding,
    EmbeddingBag,
    GroupNorm,
    InstanceNorm1d,
    LayerNorm,
    Linear,
    Residual,
    SelfAttention,
    SpectralNormLinear,
    Tanh,
    TiedLinear,
    TransformerEncoderLayer,
    WeightNormLinear,
)
from tests.spec.test_layers import IMAGE, SEQUENCE, TOKENS, VECTOR


@pytest.mark.parametrize(
    ("given", "found", "says"),
    [
        (SEQUENCE, (SelfAttention(3),), "divisor of 4"),
        (VECTOR, (TransformerEncoderLayer(),), "2 dimensions"),
        (IMAGE, (LSTM(2),), "2 dimensions"),
        (Input((3, 1)), (InstanceNorm1d(),), "more than one value"),
        (SEQUENCE, (ConvTranspose1d(2, 2),), "odd kernel_size"),
        (VECTOR, (Residual((Linear(2),)),), "keep the shape"),
        (VECTOR, (Linear(3), TiedLinear(2, of=0)), "no weight of shape"),
        (VECTOR, (Linear(3), TiedLinear(3, of=1)), "earlier layer, below 1"),
        (VECTOR, (Linear(3), Tanh(), TiedLinear(3, of=1)), "no weight of shape"),
        (TOKENS, (Embedding(5, 3, sparse=True), TiedLinear(5)), "sparse"),
        (VECTOR, (Checkpointed((TiedLinear(3),)),), "put it outside"),
        (VECTOR, (Residual((Checkpointed((Linear(3),)),)),), "put it outside"),
        (TOKENS, (Linear(2), EmbeddingBag(5, 3)), "vocabulary"),
        (VECTOR, (Checkpointed((Linear(2), EmbeddingBag(5, 3))),), "come first"),
    ],
)
def test_layers_that_do_not_fit_get_one_line(
    given: Input, found: tuple[AnyLayer, ...], says: str
) -> None:
    with pytest.raises(CaseError, match=says) as error:
        Architecture(given, found).check()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("layer", "shape", "fitted"),
    [
        (SelfAttention(2), (2, 3), SelfAttention(1)),
        (SelfAttention(2), (2, 4), SelfAttention(2)),
        (TransformerEncoderLayer(2, 3, 0.2), (2, 3), TransformerEncoderLayer(1, 3, 0.2)),
        (InstanceNorm1d(), (3, 1), LayerNorm()),
        (ConvTranspose1d(2, 3, 2), (3, 4), ConvTranspose1d(2, 3, 2)),
        (ConvTranspose1d(2, 3, 2), (3, 5), ConvTranspose1d(2, 3)),
        (Residual((Linear(3), Tanh(), Linear(2))), (5,), Residual((Linear(3), Tanh(), Linear(5)))),
        (Residual((Conv2d(3, 3), Tanh())), (2, 4, 4), Residual((Conv2d(2, 3), Tanh()))),
        (Checkpointed((Linear(3), GroupNorm(2))), (2,), Checkpointed((Linear(3), GroupNorm(1)))),
    ],
)
def test_a_layer_is_fitted_to_what_it_receives(
    layer: AnyLayer, shape: tuple[int, ...], fitted: AnyLayer
) -> None:
    assert layer.fitted(shape) == fitted


def test_constructors_read_as_torch_code() -> None:
    def read(layer: AnyLayer, *shape: int) -> str:
        return str(layer.constructor(shape))

    assert read(ConvTranspose1d(2, 3), 3, 4) == "nn.ConvTranspose1d(3, 2, 3, padding=1)"
    assert read(WeightNormLinear(2, legacy=True), 3) == "nn.utils.weight_norm(nn.Linear(3, 2))"
    assert (
        read(SpectralNormLinear(2), 3) == "nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2))"
    )
    assert read(LSTM(2), 5, 3) == "LSTM(3, 2)"
    assert (
        read(Checkpointed((Linear(3), Tanh())), 2)
        == "Checkpointed(nn.Linear(2, 3), nn.Tanh(), reentrant=False)"
    )
