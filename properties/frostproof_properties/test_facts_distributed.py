"""Facts of torch: frozen parameters where several ranks train together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import distributed

from frostproof.optimizers.torch_version import torch_is
from frostproof.training.bits import bits_of
from frostproof_properties.on_ranks import RANKS, network, ranks

pytestmark = pytest.mark.skipif(
    not distributed.is_available(), reason="torch has no torch.distributed"
)

Ask = Callable[[str], list[Any]]


@pytest.fixture(name="ask", scope="module")
def started() -> Iterator[Ask]:
    """Two ranks, which do what a function of `on_ranks` says."""
    with ranks() as ask:
        yield ask


def test_ddp_refuses_a_model_with_nothing_trainable(ask: Ask) -> None:
    """Freeze it, and do not wrap it.

    Row 45: https://github.com/pytorch/pytorch/issues/45325
    """
    for text in ask("nothing_trainable"):
        assert "any parameter that requires a gradient" in text


def test_what_is_frozen_after_wrapping_keeps_the_reducer_waiting(ask: Ask) -> None:
    """A search for unused parameters, or wrapping anew, mends it.

    Row 46: https://github.com/pytorch/pytorch/issues/22049
    """
    for plain, searching in ask("frozen_after_wrapping"):
        assert "Expected to have finished reduction in the prior iteration" in plain
        assert searching == ""


def test_what_is_thawed_after_wrapping_is_never_reduced(ask: Ask) -> None:
    """Replicas drift apart in silence, unless the model is wrapped anew.

    Row 47: no public report
    """
    (kept, anew), (others_kept, others_anew) = ask("thawed_after_wrapping")
    alike = [mine == theirs for mine, theirs in zip(kept, others_kept, strict=True)]
    assert alike == [False, False, True, True]
    assert anew == others_anew


def test_ddp_reduces_the_gradients_of_frozen_parameters_in_b(ask: Ask) -> None:
    """In A it reduces those of trainable parameters only.

    Row 48: no public report
    """
    model = network()
    sizes = [parameter.numel() for parameter in model.parameters()]
    for a, b in ask("reduced_elements"):
        assert (a, b) == (sum(sizes[2:]), sum(sizes))


def test_flat_parameters_refuse_mixed_flags(ask: Ask) -> None:
    """With `use_orig_params=True`, and in FSDP2, flags may be mixed.

    Row 49: https://github.com/pytorch/pytorch/issues/104690
    """
    for text in ask("flat_parameters"):
        assert "Must flatten tensors with uniform `requires_grad`" in text


def test_fully_shard_takes_mixed_flags_and_follows_them(ask: Ask) -> None:
    """Frozen or thawed after sharding, in one group with others: no need to shard anew.

    Gradients are those of the whole batch. With gloo, before torch 2.9, they are their sum over the
    ranks, and not their average.

    Rows 46 and 47 and 49: no public report
    """
    for (frozen, thawed), factors in ask("flags_after_sharding"):
        assert frozen == [False, False, True, True]
        assert thawed == [True] * 4
        assert factors == [1 if torch_is(">=2.9") else RANKS]


@pytest.mark.skipif(not torch_is(">=2.8"), reason="reshard_after_forward=None is not in torch 2.7")
def test_a_forward_pass_alone_leaves_full_parameters_in_a_sharded_model(ask: Ask) -> None:
    """An optimizer that is built then owns tensors that never get a gradient.

    A model with everything frozen, or one that was only evaluated, is in that state until its next
    backward pass, unless `reshard_after_forward=True` is given.

    Row 78: no public report
    """
    for left, sharded_again in ask("forward_alone"):
        assert left == (["Parameter"], [False] * 4)
        assert sharded_again == (["DTensor"], [True] * 4)


def test_saving_by_torch_distributed_takes_a_step() -> None:
    """It makes the optimizer's state by a step with zeros as gradients and a learning rate of 0.

    A weight decay that does not go by the learning rate moves the trainable weights.

    Row 79: no public report
    """
    model = network()
    model[0].requires_grad_(False)
    before = bits_of(model.parameters())
    saved_by_torch_distributed(model, Decays(model.parameters(), lr=0.1))
    moved = [old != new for old, new in zip(before, bits_of(model.parameters()), strict=True)]
    assert moved == [False, False, True, True]


def test_loading_by_torch_distributed_drops_the_state_of_frozen_parameters() -> None:
    """It is in the checkpoint, and a parameter that thaws later begins without it.

    Row 79: no public report
    """
    model, optimizer = trained(frozen=False)
    model[0].requires_grad_(False)
    saved = saved_by_torch_distributed(model, optimizer)
    assert "0.weight" in saved["state"]
    other = network()
    other[0].requires_grad_(False)
    fresh = torch.optim.Adam(other.parameters(), lr=0.1)
    load_by_torch_distributed(other, fresh, saved)
    assert [bool(fresh.state.get(p)) for p in other.parameters()] == [False, False, True, True]


def test_loading_by_torch_distributed_refuses_what_has_thawed_without_a_step() -> None:
    """It wants state for each parameter that requires grad; `strict=False` mends it.

    Row 79: no public report
    """
    model, optimizer = trained(frozen=True)
    model[0].requires_grad_(True)
    saved = saved_by_torch_distributed(model, optimizer)
    other = network()
    with pytest.raises((KeyError, RuntimeError), match=r"0\.weight"):
        load_by_torch_distributed(other, torch.optim.Adam(other.parameters(), lr=0.1), saved)


def test_zero_deals_out_frozen_parameters_like_others(ask: Ask) -> None:
    """One rank may have nothing to train, and the other everything.

    Row 80: no public report
    """
    assert ask("trainable_of_zero") == [2, 0]


def test_zero_steps_a_parameter_that_has_left_its_group(ask: Ask) -> None:
    """The optimizer of each rank has groups of its own. Build another one for another mask.

    Row 80: no public report
    """
    assert ask("left_group_of_zero") == [True, True]


def test_zero_uses_up_a_group_that_is_a_generator(ask: Ask) -> None:
    """The group stays empty, and its parameters are never stepped. Give it a list.

    Row 80: no public report
    """
    assert ask("generator_in_zero") == [[2, 0], [2, 0]]


class Decays(torch.optim.SGD):
    """Decays each weight that has a gradient by a tenth, at any learning rate."""

    def step(self, closure: Any = None) -> Any:
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                if p.grad is not None:
                    p.mul_(0.9)
        return super().step(closure)


def trained(*, frozen: bool) -> tuple[torch.nn.Sequential, torch.optim.Optimizer]:
    """A network after a step of Adam, its first layer frozen or not."""
    model = network()
    model[0].requires_grad_(not frozen)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(3, 2)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def saved_by_torch_distributed(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    return get_optimizer_state_dict(model, optimizer)


def load_by_torch_distributed(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, saved: Any
) -> None:
    from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

    set_optimizer_state_dict(model, optimizer, saved)
