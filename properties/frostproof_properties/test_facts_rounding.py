"""Facts of torch: `requires_grad` can change the kernel, and with it the last bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from frostproof.training.bits import bits, bits_of, ulp
from frostproof_properties.facts import (
    FACT,
    MASKS,
    SEEDS,
    STEPS,
    Mask,
    backward,
    batch,
    chosen,
    loss_of,
    network,
    train,
    twins,
    weights,
)


def _layer(name: str, first: bool) -> nn.Module:
    if name == "MultiheadAttention":
        return nn.MultiheadAttention(8, 2, batch_first=first)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=first)
    return (
        layer
        if name == "TransformerEncoderLayer"
        else nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    )


ATTENTION = ("MultiheadAttention", "TransformerEncoderLayer", "TransformerEncoder")


@contextmanager
def _fast_path(enabled: bool) -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _attend(
    name: str, seed: int, *, frozen: bool, first: bool, training: bool, fast: bool, rows: int
) -> Tensor:
    torch.manual_seed(seed)
    module = _layer(name, first).requires_grad_(not frozen).train(training)
    inputs = torch.randn(rows, 16, 8) if first else torch.randn(16, rows, 8)
    with _fast_path(fast):
        output = (
            module(inputs, inputs, inputs)[0] if name == "MultiheadAttention" else module(inputs)
        )
    assert isinstance(output, Tensor)
    return output.detach()


@pytest.mark.parametrize("name", ATTENTION)
@FACT
@given(
    seed=SEEDS,
    first=st.booleans(),
    training=st.booleans(),
    fast=st.booleans(),
    rows=st.integers(1, 3),
)
def test_frozen_attention_agrees_to_rounding(
    name: str, seed: int, first: bool, training: bool, fast: bool, rows: int
) -> None:
    """Attention with all parameters frozen agrees with the unfrozen one to rounding.

    With batch_first=False it agrees to the bit.

    Row 37: https://github.com/pytorch/pytorch/issues/128209
    """
    frozen, free = (
        _attend(name, seed, frozen=frozen, first=first, training=training, fast=fast, rows=rows)
        for frozen in (True, False)
    )
    assert first or bits(frozen) == bits(free)
    torch.testing.assert_close(frozen, free, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["TransformerEncoderLayer", "TransformerEncoder"])
@FACT
@given(seed=SEEDS, first=st.booleans(), training=st.booleans(), fast=st.booleans())
def test_a_frozen_encoder_in_eval_mode_takes_the_fast_path(
    name: str, seed: int, first: bool, training: bool, fast: bool
) -> None:
    """On a batch of one, a frozen encoder has other bits exactly if the fast path is open to it.

    It is open with the batch first, in eval mode, unless it is switched off.

    Row 37: https://github.com/pytorch/pytorch/issues/128209
    """
    frozen, free = (
        _attend(name, seed, frozen=frozen, first=first, training=training, fast=fast, rows=1)
        for frozen in (True, False)
    )
    assert (bits(frozen) != bits(free)) == (first and fast and not training)


@FACT
@given(seed=SEEDS, bias=st.booleans(), transposed=st.booleans(), trains=st.booleans())
def test_a_frozen_layer_rounds_a_transposed_batch_differently(
    seed: int, bias: bool, transposed: bool, trains: bool
) -> None:
    """Freezing an nn.Linear changes the last bits of its output on a transposed batch.

    A matrix product folds a transposed batch of sequences exactly if the weight requires grad. For
    some shape at least this shows, as in attention with batch_first=True. On a contiguous copy of
    the batch the bits are the same.

    Rows 37 and 71: https://github.com/pytorch/pytorch/pull/166891
    """
    torch.manual_seed(seed)
    same = []
    for rows, length, width in ((2, 16, 8), (2, 3, 8), (5, 7, 33)):
        layer, inputs = (
            nn.Linear(width, 6, bias=bias),
            torch.randn(rows, length, width).transpose(0, 1),
        )
        inputs = inputs if transposed else inputs.contiguous()
        free = layer(inputs).detach()
        other = layer.requires_grad_(trains)(inputs).detach()
        torch.testing.assert_close(other, free, atol=1e-5, rtol=1e-5)
        same.append(bits(other) == bits(free))
    assert all(same) == (trains or not transposed)


@FACT
@given(seed=SEEDS, dtype=st.sampled_from((torch.float32, torch.float64)))
def test_a_frozen_attention_bias_agrees_with_a_trainable_one_to_rounding(
    seed: int, dtype: torch.dtype
) -> None:
    """A frozen and a trainable attention bias agree up to rounding.

    scaled_dot_product_attention picks its kernel by whether the additive bias requires grad.

    Row 38: https://github.com/pytorch/pytorch/issues/188302
    """
    torch.manual_seed(seed)
    query, key, value = torch.randn(3, 1, 2, 16, 8, dtype=dtype)
    bias = torch.randn(16, 16, dtype=dtype)
    frozen, free = (
        nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.clone().requires_grad_(trains)
        ).detach()
        for trains in (False, True)
    )
    torch.testing.assert_close(frozen, free)


def test_a_frozen_attention_bias_rounds_differently() -> None:
    """For some inputs, a frozen and a trainable attention bias give different bits.

    Row 38: https://github.com/pytorch/pytorch/issues/188302
    """
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 64, 16)
    bias = torch.randn(64, 64)
    outputs = [
        bits(
            nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=bias.clone().requires_grad_(trains)
            )
        )
        for trains in (False, True)
    ]
    assert outputs[0] != outputs[1]


def _lbfgs(model: nn.Module, owned: list[nn.Parameter], inputs: Tensor, steps: int) -> None:
    optimizer = torch.optim.LBFGS(owned, lr=0.5, max_iter=2)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, inputs)
        backward(loss)
        return loss

    for _ in range(steps):
        optimizer.step(closure)  # type: ignore[no-untyped-call]


@FACT
@given(seed=SEEDS, mask=MASKS, steps=STEPS)
def test_lbfgs_keeps_frozen_bits_and_trains_alike_to_rounding(
    seed: int, mask: Mask, steps: int
) -> None:
    """LBFGS keeps the bits of frozen parameters, and trains A and B alike to rounding.

    In A they are zeros in its flat vector.

    Row 36: https://github.com/pytorch/pytorch/issues/27605
    """
    a, b = twins(seed, mask, torch.float64)
    inputs = batch(seed, torch.float64)
    _lbfgs(a, list(a.parameters()), inputs, steps)
    _lbfgs(b, chosen(b, mask, frozen=False), inputs, steps)
    before = network(seed, dtype=torch.float64)
    assert bits_of(chosen(a, mask, frozen=True)) == bits_of(chosen(before, mask, frozen=True))
    assert weights(a) != weights(before)
    torch.testing.assert_close(list(a.parameters()), list(b.parameters()), rtol=1e-6, atol=1e-9)


_swa = torch.optim.swa_utils
AVERAGES: dict[str, dict[str, Any]] = {
    "default": {},
    "ema": {"multi_avg_fn": _swa.get_ema_multi_avg_fn(0.9)},  # type: ignore[no-untyped-call]
    "swa": {"multi_avg_fn": _swa.get_swa_multi_avg_fn()},  # type: ignore[no-untyped-call]
}


@pytest.mark.parametrize("average", AVERAGES)
@FACT
@given(seed=SEEDS, mask=MASKS, steps=st.integers(2, 20))
def test_the_average_of_frozen_weights_is_exact(
    average: str, seed: int, mask: Mask, steps: int
) -> None:
    """AveragedModel interpolates, and keeps the bits of exactly the frozen weights.

    Row 44: https://github.com/open-mmlab/mmengine/pull/519
    """
    model, _ = twins(seed, mask)
    start = weights(model)
    averaged = _swa.AveragedModel(model, **AVERAGES[average])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        train(model, optimizer, batch(seed))
        averaged.update_parameters(model)
    assert [old == new for old, new in zip(start, weights(averaged.module), strict=True)] == list(
        mask
    )


@FACT
@given(seed=SEEDS)
def test_an_average_by_hand_drifts_by_rounding_alone(seed: int) -> None:
    """The formula `d * average + (1 - d) * value` keeps a frozen value to rounding only.

    Row 44: https://github.com/open-mmlab/mmengine/pull/519
    """
    value = torch.randn(64, generator=torch.Generator().manual_seed(seed))
    average = value.clone()
    for _ in range(200):
        average = 0.999 * average + (1 - 0.999) * value
    assert bits(average) != bits(value)
    torch.testing.assert_close(average, value, rtol=1e-4, atol=1e-6)


def _beside_a_newcomer(
    seed: int, dtype: torch.dtype, *, late: bool, together: bool, foreach: bool, steps: int
) -> Tensor:
    """Return a weight after `steps` steps and one more, beside another weight.

    The other one trains from the start, or, if `late`, in the last step only.
    """
    generator = torch.Generator().manual_seed(seed)
    value, other = (nn.Parameter(torch.randn(256, generator=generator).to(dtype)) for _ in range(2))
    groups: Any = [value, other] if together else [{"params": [value]}, {"params": [other]}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, foreach=foreach)
    for step in range(steps + 1):
        value.grad = torch.randn(256, generator=generator).to(dtype)
        other.grad = None if late and step < steps else torch.ones_like(other)
        optimizer.step()
    return value.detach()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@FACT
@given(seed=SEEDS, late=st.booleans(), foreach=st.booleans(), steps=STEPS)
def test_a_newcomer_changes_how_its_group_rounds(
    dtype: torch.dtype, seed: int, late: bool, foreach: bool, steps: int
) -> None:
    """In bfloat16, a newly thawed member changes how SGD(foreach=True) rounds its group.

    While the member has no momentum buffer yet, the group is updated one by one, and the others
    differ in the last bits from a group of their own. Wider dtypes and the for-loop are not
    affected.

    Row 76: no public report
    """
    beside, alone = (
        _beside_a_newcomer(seed, dtype, late=late, together=together, foreach=foreach, steps=steps)
        for together in (True, False)
    )
    assert (bits(beside) != bits(alone)) == (late and foreach and dtype == torch.bfloat16)
    largest = max(1.0, float(alone.abs().max()))
    assert float((beside.double() - alone.double()).abs().max()) <= 2 * ulp(
        largest, str(dtype).removeprefix("torch.")
    )
