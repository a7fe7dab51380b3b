"""Facts of torch: an optimizer looks at gradients only: None, zero or left over."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.optim import Optimizer

from frostproof.training.bits import bits, bits_of, gradient_bits
from frostproof_properties.facts import (
    BRIEF,
    DTYPES,
    FACT,
    MASKS,
    OPTIMIZER_NAMES,
    OPTIMIZING,
    SEEDS,
    STEPS,
    Mask,
    Optimizing,
    backward,
    batch,
    chosen,
    loss_of,
    network,
    parameter,
    state_bits,
    train,
    twins,
    weights,
)

every_optimizer = pytest.mark.parametrize("optimizing", OPTIMIZING, ids=str)


def _warm(optimizer: Optimizer, value: torch.nn.Parameter, seed: int, steps: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        value.grad = torch.randn(value.shape, generator=generator, dtype=value.dtype)
        optimizer.step()


@every_optimizer
@BRIEF
@given(seed=SEEDS, dtype=DTYPES)
def test_a_zero_gradient_moves_a_frozen_parameter_if_the_optimizer_decays(
    optimizing: Optimizing, seed: int, dtype: torch.dtype
) -> None:
    """A new optimizer moves a frozen parameter with a zero gradient exactly if it decays weights.

    If the gradient is None, it never does.

    Row 1: https://github.com/facebookresearch/moco/issues/14
    """
    for zeros in (True, False):
        value = parameter(seed, dtype).requires_grad_(False)
        value.grad = torch.zeros_like(value) if zeros else None
        before = bits(value)
        optimizing([value]).step()
        assert (bits(value) != before) == (zeros and optimizing.decays)


@every_optimizer
@BRIEF
@given(seed=SEEDS, steps=STEPS, set_to_none=st.booleans())
def test_zeroing_to_zeros_lets_memory_move_a_frozen_parameter(
    optimizing: Optimizing, seed: int, steps: int, set_to_none: bool
) -> None:
    """After training and freezing, zeros for a gradient let decay or memory move the parameter.

    If the gradient was set to None, the state of the optimizer keeps its bits too.

    Rows 2 and 4: https://discuss.pytorch.org/t/153740
    and https://github.com/pytorch/pytorch/issues/92656
    """
    value = parameter(seed)
    optimizer = optimizing([value])
    _warm(optimizer, value, seed, steps)
    value.requires_grad_(False)
    optimizer.zero_grad(set_to_none=set_to_none)
    before, state = bits(value), state_bits(optimizer)
    optimizer.step()
    assert (bits(value) != before) == (
        not set_to_none and (optimizing.decays or optimizing.remembers)
    )
    assert state_bits(optimizer) == state or not set_to_none


@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
@BRIEF
@given(seed=SEEDS)
def test_a_gradient_left_over_moves_a_frozen_parameter(name: str, seed: int) -> None:
    """Every optimizer moves a frozen parameter that still has a gradient: none checks the flag.

    Row 3: https://discuss.pytorch.org/t/153740
    """
    value = parameter(seed).requires_grad_(False)
    gradient = torch.ones_like(value)
    value.grad = gradient.to_sparse(1) if name == "SparseAdam" else gradient
    before = bits(value)
    getattr(torch.optim, name)([value], lr=0.1).step(lambda: torch.ones(()))
    assert bits(value) != before


@every_optimizer
@BRIEF
@given(seed=SEEDS)
def test_freezing_between_backward_and_step_is_one_step_late(
    optimizing: Optimizing, seed: int
) -> None:
    """A parameter frozen after backward still makes that step, and none after the next zero_grad.

    Row 3: https://discuss.pytorch.org/t/153740
    """
    frozen, other = parameter(seed), parameter(seed + 1)
    optimizer = optimizing([frozen, other])
    backward((frozen * other).sum())
    frozen.requires_grad_(False)
    before = bits(frozen)
    optimizer.step()
    late = bits(frozen)
    assert late != before
    optimizer.zero_grad()
    backward((frozen * other).sum())
    optimizer.step()
    assert bits(frozen) == late


@every_optimizer
@BRIEF
@given(seed=SEEDS, steps=STEPS)
def test_a_learning_rate_of_zero_freezes_except_in_rprop(
    optimizing: Optimizing, seed: int, steps: int
) -> None:
    """With lr=0, every optimizer but Rprop leaves the weights alone, though its state grows.

    The step sizes of Rprop have a floor.

    Row 7: https://github.com/brian6091/Dreambooth/issues/28
    """
    value = parameter(seed)
    before = bits(value)
    optimizer = optimizing([value], lr=0.0)
    _warm(optimizer, value, seed, steps)
    assert (bits(value) == before) == (optimizing.kind is not torch.optim.Rprop)
    assert bool(state_bits(optimizer)) == (str(optimizing) not in ("SGD", "SGD weight_decay=0.1"))


@every_optimizer
@BRIEF
@given(seed=SEEDS, warm=st.booleans(), rows=st.sampled_from(((True, False), (False, True))))
def test_masking_rows_by_a_hook_freezes_them_if_nothing_decays_or_remembers(
    optimizing: Optimizing, seed: int, warm: bool, rows: tuple[bool, bool]
) -> None:
    """Rows whose gradient a hook zeroes stay exactly if nothing else moves them.

    That is weight decay, or memory of gradients from before the hook.

    Row 8: https://github.com/kohjingyu/fromage/issues/6
    """
    value = parameter(seed)
    optimizer = optimizing([value])
    if warm:
        _warm(optimizer, value, seed, 2)
        optimizer.zero_grad()
    masked = torch.tensor(rows)
    value.register_hook(lambda gradient: gradient * ~masked[:, None])  # type: ignore[no-untyped-call]
    before = bits(value[masked]), bits(value[~masked])
    backward(value.square().sum())
    optimizer.step()
    after = bits(value[masked]), bits(value[~masked])
    assert (after[0] != before[0]) == (optimizing.decays or (warm and optimizing.remembers))
    assert after[1] != before[1]


@FACT
@given(seed=SEEDS, mask=MASKS, steps=STEPS)
def test_gradients_outside_the_optimizer_pile_up_until_all_are_handed_over(
    seed: int, mask: Mask, steps: int
) -> None:
    """In B, a new optimizer over all parameters first steps on the leftover gradients.

    It does not if its own zero_grad comes first.

    Rows 14 and 15: https://github.com/Lightning-AI/pytorch-lightning/issues/591
    """
    results = []
    for cleared in ("every step", "by the new optimizer", "never"):
        model = network(seed)
        frozen = chosen(model, mask, frozen=True)
        optimizer: Optimizer = torch.optim.SGD(chosen(model, mask, frozen=False), lr=0.1)
        for _ in range(steps):
            train(model, optimizer, batch(seed))
            if cleared == "every step":
                model.zero_grad()
        assert (None in gradient_bits(frozen)) == (cleared == "every step")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        if cleared == "by the new optimizer":
            optimizer.zero_grad()
        else:
            for each in chosen(model, mask, frozen=False):
                each.grad = None
        backward(loss_of(model, batch(seed)))
        optimizer.step()
        results.append(weights(model))
    assert results[0] == results[1]
    assert results[0] != results[2]


@every_optimizer
@BRIEF
@given(seed=SEEDS, steps=STEPS)
def test_the_optimizer_may_be_built_before_or_after_freezing(
    optimizing: Optimizing, seed: int, steps: int
) -> None:
    """In A, building the optimizer before or after the flags are set gives the same bits.

    Row 32: no public report
    """
    mask = (
        [False, True] * 3
        if optimizing.kind.__name__ == "Muon"
        else [True, False, True, True, False, False]
    )
    early, late = network(seed), network(seed)
    owned = [[each for each in model.parameters() if each.ndim == 2] for model in (early, late)]
    first = optimizing(owned[0])
    for model in (early, late):
        for each in chosen(model, mask, frozen=True):
            each.requires_grad_(False)
    start = weights(late)
    train(early, first, batch(seed), steps)
    train(late, optimizing(owned[1]), batch(seed), steps)
    assert weights(early) == weights(late) != start


@FACT
@given(seed=SEEDS, mask=MASKS, parts=STEPS)
def test_gradients_accumulated_over_parts_of_a_batch_agree(
    seed: int, mask: Mask, parts: int
) -> None:
    """Accumulating gradients over several backward passes leaves A and B the same bits.

    Row 27: no public report
    """
    a, b = twins(seed, mask)
    for model, owned in ((a, list(a.parameters())), (b, chosen(b, mask, frozen=False))):
        optimizer = torch.optim.Adam(owned, lr=0.1)
        for part in range(parts):
            backward(loss_of(model, batch(seed + part)))
        optimizer.step()
    assert weights(a) == weights(b) != weights(network(seed))


@FACT
@given(seed=SEEDS, mask=MASKS, steps=STEPS)
def test_logged_gradient_norms_of_the_whole_model_differ(seed: int, mask: Mask, steps: int) -> None:
    """The logged gradient norm of all parameters is larger in B, though A and B train alike.

    Row 66: no public report
    """

    def norm(values: list[Tensor]) -> Tensor:
        return torch.nn.utils.get_total_norm(
            [each.grad for each in values if each.grad is not None]
        )

    a, b = twins(seed, mask)
    for model, owned in ((a, list(a.parameters())), (b, chosen(b, mask, frozen=False))):
        train(model, torch.optim.SGD(owned, lr=0.1), batch(seed), steps)
    assert weights(a) == weights(b)
    assert norm([*a.parameters()]) < norm([*b.parameters()])
    assert bits_of([norm([*a.parameters()])]) == bits_of([norm([*chosen(b, mask, frozen=False)])])
