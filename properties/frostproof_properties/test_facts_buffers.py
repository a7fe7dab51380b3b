"""Facts of torch: `requires_grad=False` does not stop buffers, modes and random numbers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from frostproof.optimizers.torch_version import torch_is
from frostproof.training.bits import bits, bits_of
from frostproof_properties.facts import (
    BRIEF,
    FACT,
    SEEDS,
    STEPS,
    WIDTHS,
    backward,
    everything,
    loss_of,
    train,
    weights,
)

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BatchNorm1d": nn.BatchNorm1d,
    "BatchNorm2d": lambda width: nn.Sequential(
        nn.Unflatten(1, (width, 1, 1)), nn.BatchNorm2d(width), nn.Flatten()
    ),
    "InstanceNorm1d": lambda width: nn.Sequential(
        nn.Unflatten(0, (2, 2)),
        nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
        nn.Flatten(0, 1),
    ),
}
GRAD_MODES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "grad": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


def _inputs(seed: int, width: int) -> Tensor:
    return torch.randn(4, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mode", GRAD_MODES)
@pytest.mark.parametrize("norm", NORMS)
@BRIEF
@given(seed=SEEDS, width=st.integers(2, 4), training=st.booleans(), forwards=STEPS)
def test_statistics_of_a_frozen_norm_drift_in_train_mode(
    norm: str, mode: str, seed: int, width: int, training: bool, forwards: int
) -> None:
    """Each forward pass in train mode changes the running statistics of a frozen norm.

    This is so under no_grad too. In eval mode they stay.

    Row 11: https://github.com/pytorch/pytorch/issues/86590
    """
    model = NORMS[norm](width).requires_grad_(False).train(training)
    parameters, buffers = weights(model), bits_of(model.buffers())
    with GRAD_MODES[mode]():
        for number in range(forwards):
            model(_inputs(seed + number, width))
    changed = [old != new for old, new in zip(buffers, bits_of(model.buffers()), strict=True)]
    counts = norm != "InstanceNorm1d"  # which has a counter of batches, and never counts
    assert changed == [training, training, training and counts]
    assert weights(model) == parameters


@FACT
@given(seed=SEEDS, width=WIDTHS, steps=STEPS)
def test_statistics_of_a_frozen_norm_drift_alike_in_a_and_b(
    seed: int, width: int, steps: int
) -> None:
    """In train mode, the statistics of a frozen norm drift by the same bits in A and in B.

    Row 11: https://github.com/lightly-ai/lightly/issues/1438
    """

    def model() -> nn.Sequential:
        torch.manual_seed(seed)
        return nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, 1))

    a, b = model(), model()
    a[0].requires_grad_(False)
    train(a, torch.optim.Adam(a.parameters(), lr=0.1), _inputs(seed, width), steps)
    train(b, torch.optim.Adam(b[1].parameters(), lr=0.1), _inputs(seed, width), steps)
    assert everything(a) == everything(b)
    assert bits_of(a.buffers()) != bits_of(model().buffers())


@FACT
@given(depth=st.integers(0, 3), mode=st.booleans())
def test_train_on_the_model_undoes_eval_of_a_part(depth: int, mode: bool) -> None:
    """`model.train()` and `model.eval()` set every module below, whatever was set before.

    Row 12: https://discuss.pytorch.org/t/25176
    """
    norm = nn.BatchNorm1d(2).train(not mode)
    model = nn.Sequential(norm)
    for _ in range(depth):
        model = nn.Sequential(model)
    model.train(mode)
    assert norm.training is mode


@FACT
@given(seed=SEEDS, width=WIDTHS)
def test_a_norm_in_train_mode_normalises_by_the_batch(seed: int, width: int) -> None:
    """In train mode, a frozen BatchNorm ignores its statistics, even with momentum=0.

    momentum=0 keeps all of them but the counter.

    Row 12: https://discuss.pytorch.org/t/25176
    """
    norm, other = (nn.BatchNorm1d(width, momentum=0.0).requires_grad_(False) for _ in range(2))
    assert other.running_mean is not None
    other.running_mean.fill_(3.0)
    before = everything(norm)
    inputs = _inputs(seed, width)
    assert bits(norm(inputs)) == bits(other(inputs))
    assert bits(norm.eval()(inputs)) != bits(other.eval()(inputs))
    assert {name for name, value in everything(norm).items() if value != before[name]} == {
        "num_batches_tracked"
    }


@FACT
@given(width=WIDTHS, rows=st.integers(1, 3), training=st.booleans(), frozen=st.booleans())
def test_a_batch_of_one_is_refused_in_train_mode(
    width: int, rows: int, training: bool, frozen: bool
) -> None:
    """A BatchNorm refuses a batch of one exactly in train mode, frozen or not.

    Row 12: https://github.com/speedinghzl/Pytorch-Deeplab/issues/17
    """
    norm = nn.BatchNorm1d(width).requires_grad_(not frozen).train(training)
    refused = pytest.raises(
        ValueError, match="Expected more than 1 value per channel when training, got input size"
    )
    with refused if rows == 1 and training else nullcontext():
        assert norm(torch.randn(rows, width)).shape == (rows, width)


def _with_dropout(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(8, 8), nn.Dropout(), nn.Linear(8, 8), nn.Dropout(), nn.Linear(8, 1)
    )


@FACT
@given(seed=SEEDS, steps=STEPS)
def test_dropout_draws_alike_in_a_and_b(seed: int, steps: int) -> None:
    """From one seed, dropout gives A and B the same bits, and leaves the generator in one state.

    Row 13: https://github.com/facebookresearch/fairseq/pull/1710
    """
    found = []
    for approach in "AB":
        model = _with_dropout(seed)
        model[0].requires_grad_(approach == "B")
        train(
            model,
            torch.optim.Adam(model[2:].parameters() if approach == "B" else model.parameters()),
            _inputs(seed, 8),
            steps,
        )
        found.append((weights(model), bits(torch.get_rng_state())))
    assert found[0] == found[1]
    assert found[0][0] != weights(_with_dropout(seed))


@FACT
@given(seed=SEEDS, which=st.integers(0, 2))
def test_eval_of_one_dropout_shifts_the_numbers_of_the_next(seed: int, which: int) -> None:
    """A dropout in eval mode draws nothing, so later ones draw other numbers.

    The generator ends in another state.

    Row 13: https://github.com/facebookresearch/fairseq/pull/1710
    """
    masks, states = [], []
    for quiet in (False, True):
        first, second, third = dropouts = [nn.Dropout() for _ in range(3)]
        dropouts[which].train(not quiet)
        torch.manual_seed(seed)
        masks.append([bits(each(torch.ones(64))) for each in (first, second, third)])
        states.append(bits(torch.get_rng_state()))
    same = [loud == quiet for loud, quiet in zip(*masks, strict=True)]
    assert same == [place < which for place in range(3)]
    assert states[0] != states[1]


SPECTRAL: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "nn.utils.spectral_norm": nn.utils.spectral_norm,
    "nn.utils.parametrizations.spectral_norm": nn.utils.parametrizations.spectral_norm,
}


@pytest.mark.parametrize("api", SPECTRAL)
@FACT
@given(seed=SEEDS, training=st.booleans())
def test_spectral_norm_of_a_frozen_layer_drifts_in_train_mode(
    api: str, seed: int, training: bool
) -> None:
    """Under spectral_norm, the effective weight of a frozen layer drifts in train mode only.

    So do its vectors.

    Row 41: https://github.com/pytorch/pytorch/issues/8208
    """
    torch.manual_seed(seed)
    layer = SPECTRAL[api](nn.Linear(16, 16)).requires_grad_(False).train(training)
    with torch.no_grad():
        for each in layer.parameters():
            each.add_(torch.randn(each.shape))  # as training does: the vectors no longer fit
    inputs = _inputs(seed, 16)
    parameters, buffers, first = weights(layer), bits_of(layer.buffers()), bits(layer(inputs))
    second = bits(layer(inputs))
    assert (bits_of(layer.buffers()) != buffers) == training
    assert (second != first) == training
    assert weights(layer) == parameters


@FACT
@given(
    seed=SEEDS,
    indexed=st.sets(st.integers(0, 4), max_size=5),
    frozen=st.booleans(),
    training=st.booleans(),
    grad=st.booleans(),
)
def test_max_norm_rewrites_the_rows_that_it_looks_up(
    seed: int, indexed: set[int], frozen: bool, training: bool, grad: bool
) -> None:
    """Embedding(max_norm=...) shrinks the rows that it looks up, even if the table is frozen.

    This is so in eval mode and under no_grad too.

    Row 39: https://github.com/pytorch/pytorch/issues/26596
    """
    torch.manual_seed(seed)
    table = nn.Embedding(5, 3, max_norm=0.01).requires_grad_(not frozen).train(training)
    before = bits_of(table.weight)
    with torch.set_grad_enabled(grad):
        table(torch.tensor(sorted(indexed), dtype=torch.long))
    assert {row for row in range(5) if bits(table.weight[row]) != before[row]} == indexed


@FACT
@given(seed=SEEDS, frozen=st.booleans())
def test_sparse_gradients_come_from_trainable_tables_only(seed: int, frozen: bool) -> None:
    """Adam steps over a sparse embedding if it is frozen, and refuses it otherwise.

    SparseAdam refuses the dense gradients of the other layers.

    Row 40: https://github.com/pytorch/pytorch/issues/4829
    """
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Linear(3, 1))
    model[0].requires_grad_(not frozen)
    backward(loss_of(model, torch.tensor([0, 2])))
    adam = torch.optim.Adam(model.parameters())
    with (
        nullcontext()
        if frozen
        else pytest.raises(RuntimeError, match="Adam does not support sparse gradients")
    ):
        adam.step()
    with pytest.raises(RuntimeError, match="SparseAdam does not support dense gradients"):
        torch.optim.SparseAdam(list(model.parameters())).step()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "clip", [nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_], ids=lambda clip: clip.__name__
)
@FACT
@given(seed=SEEDS, steps=STEPS)
def test_clipping_over_all_parameters_meets_the_sparse_gradient(
    clip: Callable[..., Any], seed: int, steps: int
) -> None:
    """In B, clipping over all parameters meets the sparse gradient of the frozen table.

    Clipping by value raises. So does clipping by norm before torch 2.14, and from then on it counts
    that gradient. It collects every row that was looked up. In A there is no such gradient.

    Row 40: https://github.com/huggingface/transformers/issues/30276
    """
    by_norm = clip is nn.utils.clip_grad_norm_
    for frozen in (True, False):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Linear(3, 1))
        model[0].requires_grad_(not frozen)
        for step in range(steps):
            train(model, torch.optim.SGD(model[1].parameters()), torch.tensor([step, step + 1]))
        gradient = next(model[0].parameters()).grad
        assert (gradient is None) == frozen
        assert gradient is None or gradient._nnz() == steps + 1
        refused = not frozen and not (by_norm and torch_is(">=2.14"))
        counted = [each.grad.to_dense() for each in model.parameters() if each.grad is not None]
        norm = nn.utils.get_total_norm(counted)
        with pytest.raises(NotImplementedError, match="SparseCPU") if refused else nullcontext():
            said = clip(model.parameters(), 1.0)
            assert not by_norm or float(said) == pytest.approx(float(norm))
