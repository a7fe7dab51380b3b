"""Facts of torch: `requires_grad` decides whether activation checkpointing runs a segment again."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import CheckpointError, checkpoint

from frostproof.training.bits import bits, gradient_bits
from frostproof_properties.facts import FACT, SEEDS, backward, batch, network

NONE_REQUIRE = "None of the inputs have requires_grad=True"


@FACT
@given(
    seed=SEEDS,
    prefix=st.sampled_from(("frozen", "trainable")),
    reentrant=st.booleans(),
    inputs=st.booleans(),
)
def test_a_reentrant_segment_behind_a_frozen_prefix_trains_nothing(
    seed: int, prefix: str, reentrant: bool, inputs: bool
) -> None:
    """A reentrant segment gets no gradients if no input of it requires grad, and torch warns.

    That is so behind a frozen prefix in A. Any other segment gets the gradients of the plain model.

    Row 28: https://github.com/huggingface/transformers/issues/21381
    """
    model, plain = network(seed), network(seed)
    model[0].requires_grad_(prefix == "trainable")
    lost = reentrant and prefix == "frozen" and not inputs
    hidden = model[:2](batch(seed).requires_grad_(inputs))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        backward(model[4](checkpoint(model[2:4], hidden, use_reentrant=reentrant)).square().mean())
    backward(plain(batch(seed)).square().mean())
    assert any(NONE_REQUIRE in str(warning.message) for warning in caught) == lost
    expected = gradient_bits(plain[2].parameters())
    assert gradient_bits(model[2].parameters()) == ((None, None) if lost else expected)
    assert gradient_bits(model[4].parameters()) == gradient_bits(plain[4].parameters())


@FACT
@given(seed=SEEDS, reentrant=st.booleans(), inputs=st.booleans())
def test_a_whole_model_in_a_reentrant_segment_cannot_go_backward(
    seed: int, reentrant: bool, inputs: bool
) -> None:
    """With the whole model in one reentrant segment, backward needs an input that requires grad.

    This holds with or without frozen layers.

    Row 28: https://github.com/huggingface/transformers/issues/23170
    """
    model = network(seed)
    loss = (
        checkpoint(model, batch(seed).requires_grad_(inputs), use_reentrant=reentrant)
        .square()
        .mean()
    )
    refused = pytest.raises(
        RuntimeError, match="element 0 of tensors does not require grad and does not have a grad_fn"
    )
    with refused if reentrant and not inputs else nullcontext():
        backward(loss)
    assert (None in gradient_bits(model.parameters())) == (reentrant and not inputs)


def test_checkpoint_without_the_argument_is_reentrant_still() -> None:
    """Without the argument, use_reentrant is True, with a warning, up to torch 2.14.

    So a frozen prefix costs the segment its gradients.

    Row 28: https://github.com/huggingface/transformers/issues/26221
    """
    layer = nn.Linear(3, 3)
    with pytest.warns(
        UserWarning, match="use_reentrant parameter should be passed explicitly"
    ) as caught:
        output = checkpoint(layer, torch.ones(2, 3))
    assert not output.requires_grad
    assert any(NONE_REQUIRE in str(warning.message) for warning in caught)


@FACT
@given(seed=SEEDS, frozen=st.booleans(), reentrant=st.booleans(), steps=st.integers(1, 3))
def test_a_checkpointed_norm_counts_a_batch_twice_if_it_trains(
    seed: int, frozen: bool, reentrant: bool, steps: int
) -> None:
    """A BatchNorm in a checkpointed segment sees each batch twice if the segment is run again.

    A non-reentrant segment is run again exactly if something in it requires grad. So the frozen
    norm of A and that of B end with different statistics.

    Row 29: https://github.com/pytorch/pytorch/issues/96136
    """
    torch.manual_seed(seed)
    norm, head = nn.BatchNorm1d(3).requires_grad_(not frozen), nn.Linear(3, 1)
    for step in range(steps):
        backward(
            head(checkpoint(norm, batch(seed + step), use_reentrant=reentrant)).square().mean()
        )
    times = 1 if frozen or reentrant else 2
    assert norm.num_batches_tracked is not None
    assert int(norm.num_batches_tracked) == steps * times
    once = nn.BatchNorm1d(3)
    for step in range(steps):
        once(batch(seed + step))
    assert once.running_mean is not None
    assert norm.running_mean is not None
    assert (bits(once.running_mean) == bits(norm.running_mean)) == (times == 1)


@FACT
@given(seed=SEEDS, frozen=st.booleans())
def test_a_checkpointed_dropout_is_drawn_once(seed: int, frozen: bool) -> None:
    """A non-reentrant segment repeats its dropout, so training equals that without checkpointing.

    Row 29: https://github.com/pytorch/pytorch/issues/62471
    """
    found = []
    for again in (False, True):
        model = network(seed)
        segment = nn.Sequential(model[0].requires_grad_(not frozen), nn.Dropout())
        torch.manual_seed(seed)
        hidden = (
            checkpoint(segment, batch(seed), use_reentrant=False) if again else segment(batch(seed))
        )
        backward(model[1:](hidden).square().mean())
        found.append((gradient_bits(model.parameters()), bits(torch.get_rng_state())))
    assert found[0] == found[1]
    assert (found[0][0][0] is None) == frozen


@FACT
@given(
    seed=SEEDS,
    layers=st.sets(st.sampled_from((0, 2, 4)), min_size=1),
    kinds=st.sampled_from((("weight",), ("bias",), ("weight", "bias"))),
    again=st.booleans(),
    inputs=st.booleans(),
)
def test_freezing_a_weight_after_the_forward_pass_breaks_its_segment(
    seed: int, layers: set[int], kinds: tuple[str, ...], again: bool, inputs: bool
) -> None:
    """A linear weight frozen between forward and backward breaks its non-reentrant segment.

    The segment saves one tensor less when it is run again. A bias saves none, so it breaks nothing,
    and without a checkpoint nothing breaks.

    Row 74: no public report
    """
    model, samples = network(seed), batch(seed).requires_grad_(inputs)
    outputs = checkpoint(model, samples, use_reentrant=False) if again else model(samples)
    loss = outputs.square().mean()
    for layer, kind in product(layers, kinds):
        model.get_parameter(f"{layer}.{kind}").requires_grad_(False)
    raised = pytest.raises(
        CheckpointError,
        match="A different number of tensors was saved during the original forward and recomp",
    )
    with raised if again and "weight" in kinds else nullcontext():
        backward(loss)
