"""Facts of torch: an optimizer keeps state by position, and that of a frozen parameter waits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

from frostproof.training.bits import bits, bits_of
from frostproof_properties.facts import (
    BRIEF,
    FACT,
    MASKS,
    OPTIMIZING,
    SEEDS,
    STEPS,
    Mask,
    Optimizing,
    batch,
    chosen,
    network,
    parameter,
    state_bits,
    train,
    twins,
    weights,
)


def _square(seed: int) -> nn.Sequential:
    """Three layers of one shape, whose states can be taken for one another."""
    torch.manual_seed(seed)
    return nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(3)))


@FACT
@given(seed=SEEDS, mask=MASKS, steps=STEPS, approach=st.sampled_from("AB"))
def test_a_checkpoint_resumes_with_the_same_mask(
    seed: int, mask: Mask, steps: int, approach: str
) -> None:
    """With the same mask, training from a checkpoint has the bits of the uninterrupted run.

    Row 34: https://github.com/pytorch/pytorch/issues/1489
    """

    def start() -> tuple[nn.Sequential, torch.optim.Adam]:
        model = twins(seed, mask)["AB".index(approach)]
        return model, torch.optim.Adam(
            model.parameters() if approach == "A" else chosen(model, mask, frozen=False), lr=0.1
        )

    (model, optimizer), (resumed, other) = start(), start()
    train(model, optimizer, batch(seed), steps)
    resumed.load_state_dict(model.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    middle = weights(resumed)
    train(model, optimizer, batch(seed), steps)
    train(resumed, other, batch(seed), steps)
    assert weights(resumed) == weights(model) != middle
    assert state_bits(other) == state_bits(optimizer)


@FACT
@given(seed=SEEDS, saved=MASKS, loaded=MASKS, approach=st.sampled_from("AB"))
def test_a_checkpoint_of_another_mask_raises_by_number_only(
    seed: int, saved: Mask, loaded: Mask, approach: str
) -> None:
    """B refuses the state of another mask exactly if the number of trainable parameters differs.

    A never refuses it.

    Row 34: https://github.com/STVIR/pysot/issues/92
    """
    optimizers = []
    for mask in (saved, loaded):
        model = twins(seed, mask)["AB".index(approach)]
        owned = list(model.parameters()) if approach == "A" else chosen(model, mask, frozen=False)
        optimizers.append(torch.optim.Adam(owned, lr=0.1))
        train(model, optimizers[-1], batch(seed))
    state = optimizers[0].state_dict()
    if approach == "B" and sum(saved) != sum(loaded):
        with pytest.raises(
            ValueError,
            match="contains a parameter group that doesn't match the size of optimizer's group",
        ):
            optimizers[1].load_state_dict(state)
    else:
        optimizers[1].load_state_dict(state)
        assert state_bits(optimizers[1]) == state_bits(optimizers[0])


@FACT
@given(seed=SEEDS, saved=st.integers(0, 2), loaded=st.integers(0, 2), named=st.booleans())
def test_state_of_another_mask_lands_on_the_wrong_parameter(
    seed: int, saved: int, loaded: int, named: bool
) -> None:
    """In B, the state of another mask of the same size loads, and lands by position.

    Named parameters take over the saved names.

    Row 34: https://github.com/pytorch/pytorch/issues/134107
    """

    def start(
        frozen: int,
    ) -> tuple[nn.Sequential, list[tuple[str, nn.Parameter]], torch.optim.Adam]:
        model = _square(seed)
        owned = [each for place, each in enumerate(model.named_parameters()) if place != frozen]
        given: Any = owned if named else [value for _, value in owned]
        return model, owned, torch.optim.Adam(given, lr=0.1)

    model, first, optimizer = start(saved)
    train(model, optimizer, batch(seed))
    _, second, other = start(loaded)
    other.load_state_dict(optimizer.state_dict())
    moments = {name: bits(optimizer.state[value]["exp_avg"]) for name, value in first}
    landed = {name: bits(other.state[value]["exp_avg"]) for name, value in second}
    assert (landed == moments) == (saved == loaded)
    assert list(landed.values()) == list(moments.values())
    if named:
        assert other.param_groups[0]["param_names"] == [name for name, _ in first]


@FACT
@given(seed=SEEDS, other=st.booleans())
def test_state_of_another_shape_loads_and_fails_at_the_step(seed: int, other: bool) -> None:
    """State of a parameter of another shape is accepted, and the next step raises.

    Row 34: https://github.com/pytorch/pytorch/issues/1489
    """
    torch.manual_seed(seed)
    saved, loaded = (nn.Parameter(torch.randn(size)) for size in (3, 4 if other else 3))
    optimizers = [torch.optim.Adam([each], foreach=False) for each in (saved, loaded)]
    for each, optimizer in zip((saved, loaded), optimizers, strict=True):
        each.grad = torch.ones_like(each)
        optimizer.step()
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    if other:
        with pytest.raises(RuntimeError, match="must match the size of tensor"):
            optimizers[1].step()
    else:
        optimizers[1].step()
        assert bits(optimizers[1].state[loaded]["step"]) == bits(torch.tensor(2.0))


def test_state_of_another_number_of_groups_is_refused() -> None:
    """A checkpoint with another number of parameter groups does not load.

    That happens after add_param_group.

    Row 34: https://github.com/pytorch/pytorch/issues/1489
    """
    one, two = (torch.optim.Adam([nn.Parameter(torch.zeros(1))]) for _ in range(2))
    two.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    with pytest.raises(
        ValueError, match="loaded state dict has a different number of parameter groups"
    ):
        one.load_state_dict(two.state_dict())


@FACT
@given(seed=SEEDS, mask=MASKS, before=STEPS, during=STEPS)
def test_the_state_of_a_frozen_parameter_waits(
    seed: int, mask: Mask, before: int, during: int
) -> None:
    """In A, the state of a parameter that is frozen midway keeps its bits, and goes on at the thaw.

    The count of steps is part of it. In B, a group added at the thaw starts from nothing.

    Row 35: no public report
    """
    model = network(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer, batch(seed), before)
    frozen = chosen(model, mask, frozen=True)

    def kept() -> list[tuple[bytes, ...]]:
        return [bits_of(optimizer.state[each].values()) for each in frozen]

    def counted(optimizer: torch.optim.Adam, parameters: list[nn.Parameter]) -> set[float]:
        return {float(optimizer.state[each]["step"]) for each in parameters}

    for each in frozen:
        each.requires_grad_(False)
    state = kept()
    train(model, optimizer, batch(seed), during)
    assert kept() == state
    assert counted(optimizer, chosen(model, mask, frozen=False)) == {before + during}
    model.requires_grad_(True)
    train(model, optimizer, batch(seed))
    assert counted(optimizer, frozen) == {before + 1}

    subset = torch.optim.Adam(chosen(model, mask, frozen=False))
    train(model, subset, batch(seed), before)
    subset.add_param_group({"params": frozen})
    train(model, subset, batch(seed))
    assert counted(subset, frozen) == {1.0}


@FACT
@given(mask=MASKS)
def test_adagrad_allocates_state_for_what_is_frozen(mask: Mask) -> None:
    """Adagrad has state for every parameter from its constructor on, frozen ones too.

    Adam has none before a gradient comes.

    Row 35: no public report
    """
    a, _ = twins(0, mask)
    adagrad, adam = torch.optim.Adagrad(a.parameters()), torch.optim.Adam(a.parameters())
    for optimizer in (adagrad, adam):
        train(a, optimizer, batch(0))
    sizes = [
        sum(isinstance(state.get("step"), Tensor) for state in optimizer.state.values())
        for optimizer in (adagrad, adam)
    ]
    assert sizes == [6, 6 - sum(mask)]


@pytest.mark.parametrize("optimizing", OPTIMIZING, ids=str)
@FACT
@given(seed=SEEDS, removed=st.booleans(), popped=st.booleans(), steps=STEPS)
def test_state_without_a_group_cannot_be_saved(
    optimizing: Optimizing, seed: int, removed: bool, popped: bool, steps: int
) -> None:
    """If a parameter is taken out of its group and its state stays, `state_dict()` raises KeyError.

    B does that to a parameter that it freezes. It does not raise if the state is removed as well,
    or if the optimizer has none.

    Row 72: https://github.com/pytorch/pytorch/issues/42428
    """
    frozen, other = parameter(seed), parameter(seed + 1)
    optimizer = optimizing([frozen, other])
    for _ in range(steps):
        frozen.grad, other.grad = torch.ones_like(frozen), torch.ones_like(other)
        optimizer.step()
    stateful = bool(optimizer.state[frozen])
    assert stateful or not optimizing.remembers
    if removed:
        optimizer.param_groups[0]["params"][:] = [other]
    if popped or not stateful:
        del optimizer.state[frozen]
    if removed and stateful and not popped:
        with pytest.raises(KeyError, match=str(id(frozen))):
            optimizer.state_dict()
    else:
        assert len(optimizer.state_dict()["state"]) == len(optimizer.state)


def _resumed(
    optimizing: Optimizing, value: nn.Parameter, seed: int, steps: int
) -> tuple[nn.Parameter, Optimizer, nn.Parameter, Optimizer]:
    """A parameter after `steps` steps with its optimizer, and the same two from a checkpoint."""
    optimizer = optimizing([value])
    for step in range(steps):
        _step(value, optimizer, seed + step)
    resumed = nn.Parameter(value.detach().clone())
    other = optimizing([resumed])
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return value, optimizer, resumed, other


def _step(value: nn.Parameter, optimizer: Optimizer, seed: int) -> None:
    value.grad = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed)).to(
        value.dtype
    )
    optimizer.step()


CASTS = {"NAdam": {"mu_product"}, "ASGD": {"eta", "mu"}}
"""Optimizer -> what it keeps in float32 whatever the dtype of its parameters, `step` aside."""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("optimizing", OPTIMIZING, ids=str)
@BRIEF
@given(seed=SEEDS, steps=STEPS)
def test_loading_casts_state_to_the_dtype_of_the_parameter(
    optimizing: Optimizing, dtype: torch.dtype, seed: int, steps: int
) -> None:
    """load_state_dict casts all floating point state but `step` to the dtype of its parameter.

    NAdam and ASGD keep some state in float32. Its dtype changes exactly if the parameters have
    another one, and no other state changes.

    Row 73: https://github.com/pytorch/pytorch/issues/75224
    """
    value, optimizer, resumed, other = _resumed(optimizing, parameter(seed, dtype), seed, steps)
    saved, loaded = (
        {name: kept.dtype for name, kept in state.items() if isinstance(kept, Tensor)}
        for state in (optimizer.state[value], other.state[resumed])
    )
    assert saved.keys() == loaded.keys()
    cast = {name for name in saved if saved[name] != loaded[name]}
    assert cast == (CASTS.get(optimizing.kind.__name__, set()) if dtype != torch.float32 else set())
    assert all(loaded[name] == dtype for name in cast)
    assert loaded.get("step", torch.float32) == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@FACT
@given(seed=SEEDS, momentum=st.booleans())
def test_what_is_cast_on_loading_trains_apart(
    dtype: torch.dtype, seed: int, momentum: bool
) -> None:
    """NAdam, resumed after one step, differs if its float32 product was cast on loading.

    It is cast to bfloat16 and to float64. SGD, whose momentum has the dtype of the parameter, goes
    on with the same bits in each dtype.

    Row 73: https://github.com/pytorch/pytorch/issues/75224
    """
    optimizing = (
        Optimizing(torch.optim.SGD, {"momentum": 0.9})
        if momentum
        else Optimizing(torch.optim.NAdam)
    )
    start = nn.Parameter(torch.zeros(256, dtype=dtype))
    value, optimizer, resumed, other = _resumed(optimizing, start, seed, 1)
    _step(value, optimizer, seed + 1)
    _step(resumed, other, seed + 1)
    assert (bits(resumed) == bits(value)) == (momentum or dtype == torch.float32)
