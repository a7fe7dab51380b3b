"""Facts of torch: an optimizer owns parameter objects, some not at all and some twice."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from frostproof.training.bits import bits, bits_of
from frostproof_properties.facts import (
    FACT,
    MASKS,
    OPTIMIZER_NAMES,
    SEEDS,
    STEPS,
    Mask,
    batch,
    chosen,
    network,
    train,
    twins,
    weights,
)


@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
def test_an_optimizer_of_nothing_is_refused(name: str) -> None:
    """With everything frozen, B cannot build its optimizer, while A can.

    An empty list and a spent generator are both refused.

    Row 23: https://github.com/scverse/scvi-tools/pull/859
    """
    build = getattr(torch.optim, name)
    model = nn.Linear(2, 2, bias=False).requires_grad_(False)
    spent = model.parameters()
    list(spent)
    for nothing in ([each for each in model.parameters() if each.requires_grad], spent):
        with pytest.raises(ValueError, match="optimizer got an empty parameter list"):
            build(nothing)
    assert len(build(list(model.parameters())).param_groups[0]["params"]) == 1


class _Tied(nn.Module):
    """An embedding and a head that share one parameter, as language models do."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.embedding(tokens))
        return logits


@FACT
@given(seed=SEEDS, steps=STEPS)
def test_a_tied_weight_is_frozen_in_a_and_trained_in_b(seed: int, steps: int) -> None:
    """A weight that a frozen embedding shares with a trainable head stays in A and moves in B.

    Row 25: https://github.com/huggingface/transformers/issues/11903
    """
    tokens = torch.tensor([0, 3])
    a, b = _Tied(seed), _Tied(seed)
    (weight, bias) = weights(a)
    a.embedding.requires_grad_(False)
    train(a, torch.optim.SGD(a.parameters(), lr=0.1), tokens, steps)
    train(b, torch.optim.SGD(b.head.parameters(), lr=0.1), tokens, steps)
    assert [now == weight for now in (weights(a)[0], weights(b)[0])] == [True, False]
    assert bias not in (weights(a)[1], weights(b)[1])


@FACT
@given(
    flags=st.lists(
        st.tuples(st.sampled_from(("embedding", "head")), st.booleans()), min_size=1, max_size=4
    )
)
def test_the_last_word_on_a_tied_weight_counts(flags: list[tuple[str, bool]]) -> None:
    """A shared parameter has one flag, whichever of its owners set it last.

    Row 25: https://github.com/huggingface/transformers/issues/31467
    """
    model = _Tied(0)
    for owner, flag in flags:
        getattr(model, owner).requires_grad_(flag)
    assert model.embedding.weight.requires_grad is model.head.weight.requires_grad is flags[-1][1]


def test_a_copy_keeps_a_tie_and_loading_into_an_untied_model_does_not() -> None:
    """deepcopy copies a shared parameter once.

    A state dict has it twice, so a model without the tie gets two parameters.

    Row 25: https://github.com/huggingface/transformers/issues/11903
    """
    model = _Tied(0)
    copied = copy.deepcopy(model)
    assert copied.head.weight is copied.embedding.weight is not model.head.weight
    untied = _Tied(1)
    untied.head = nn.Linear(3, 5)
    untied.load_state_dict(model.state_dict())
    assert untied.head.weight is not untied.embedding.weight
    assert bits(untied.head.weight) == bits(untied.embedding.weight)


@FACT
@given(lr=st.sampled_from((0.125, 0.5)), times=st.integers(1, 3), foreach=st.booleans())
def test_a_parameter_given_twice_steps_twice(lr: float, times: int, foreach: bool) -> None:
    """A parameter that is several times in one group is stepped as often, with only a warning.

    Row 26: https://github.com/pytorch/pytorch/issues/40967
    """
    value = nn.Parameter(torch.zeros(2))
    value.grad = torch.ones(2)
    if times > 1:
        with pytest.warns(UserWarning, match="duplicate parameters"):
            optimizer = torch.optim.SGD([value] * times, lr=lr, foreach=foreach)
    else:
        optimizer = torch.optim.SGD([value], lr=lr, foreach=foreach)
    optimizer.step()
    assert value.tolist() == [-lr * times] * 2


def test_a_parameter_in_two_groups_is_refused() -> None:
    """A parameter cannot be in two groups, neither at the start nor after add_param_group.

    Row 26: https://github.com/pytorch/pytorch/issues/40967
    """
    value, other = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        torch.optim.SGD([{"params": [value]}, {"params": [other, value]}])
    optimizer = torch.optim.SGD([value])
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        optimizer.add_param_group({"params": [value]})
    optimizer.add_param_group({"params": [other]})
    assert len(optimizer.param_groups) == 2


@FACT
@given(seed=SEEDS, mask=MASKS, steps=STEPS)
def test_what_the_optimizer_does_not_own_never_thaws(seed: int, mask: Mask, steps: int) -> None:
    """A thawed parameter moves exactly if the optimizer owns it, as in A.

    In B it collects gradients and does not move.

    Row 30: https://discuss.pytorch.org/t/71917
    """
    for approach in "AB":
        model, _ = twins(seed, mask)
        owned = [each for each in model.parameters() if each.requires_grad or approach == "A"]
        optimizer = torch.optim.SGD(owned, lr=0.1)
        model.requires_grad_(True)
        frozen = chosen(model, mask, frozen=True)
        before = bits_of(frozen)
        train(model, optimizer, batch(seed), steps)
        moved = [old != new for old, new in zip(before, bits_of(frozen), strict=True)]
        assert moved == [approach == "A"] * len(frozen)
        assert all(each.grad is not None for each in frozen)


@FACT
@given(seed=SEEDS, when=st.sampled_from(("before", "after")), steps=STEPS)
def test_a_head_replaced_after_the_optimizer_never_moves(seed: int, when: str, steps: int) -> None:
    """A new head moves exactly if it was put in place before the optimizer was built.

    Row 31: https://github.com/pytorch/pytorch/issues/1489
    """
    model = network(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[4] = nn.Linear(3, 2)
    if when == "before":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, rest = weights(model[4]), weights(model[0])
    train(model, optimizer, batch(seed), steps)
    assert (weights(model[4]) != before) == (when == "before")
    assert weights(model[0]) != rest


KEEPS: dict[str, tuple[Callable[[nn.Linear], object], bool]] = {
    "to(dtype)": (lambda layer: layer.to(torch.float64), True),
    "to(device)": (lambda layer: layer.to("cpu"), True),
    "requires_grad_": (lambda layer: layer.requires_grad_(False), True),
    "load_state_dict": (lambda layer: layer.load_state_dict(layer.state_dict()), True),
    "load_state_dict(assign)": (
        lambda layer: layer.load_state_dict(nn.Linear(2, 2).state_dict(), assign=True),
        False,
    ),
    "weight_norm": (nn.utils.weight_norm, False),
    "parametrizations.weight_norm": (nn.utils.parametrizations.weight_norm, False),
    "parametrizations.spectral_norm": (nn.utils.parametrizations.spectral_norm, True),
}


@pytest.mark.parametrize("change", KEEPS)
def test_some_changes_of_a_model_leave_the_optimizer_behind(change: str) -> None:
    """Changes of dtype, device, flags or values keep the parameter objects.

    Weight norm and load_state_dict(assign=True) make new ones.

    Row 31: https://github.com/pytorch/pytorch/issues/1489
    """
    layer = nn.Linear(2, 2)
    owned = {id(each) for each in torch.optim.SGD(layer.parameters()).param_groups[0]["params"]}
    act, keeps = KEEPS[change]
    act(layer)
    assert ({id(each) for each in layer.parameters()} == owned) == keeps
