"""Facts of torch: which part of the graph exists, runs and fails, in A and in B."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from frostproof.training.bits import bits, gradient_bits
from frostproof_properties.facts import (
    FACT,
    MASKS,
    OPTIMIZER_NAMES,
    SEEDS,
    STEPS,
    Mask,
    backward,
    batch,
    chosen,
    loss_of,
    network,
    twins,
    weights,
)


class _Root(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.sqrt()


@FACT
@given(seed=SEEDS, approach=st.sampled_from("AB"), anomaly=st.booleans())
def test_anomaly_mode_finds_what_happens_in_frozen_layers_of_b(
    seed: int, approach: str, anomaly: bool
) -> None:
    """A NaN in the backward pass of a frozen layer raises in B under anomaly mode.

    A never computes it.

    Row 20: no public report
    """
    torch.manual_seed(seed)
    frozen, head = nn.Linear(3, 3).requires_grad_(approach == "B"), nn.Linear(3, 1)
    nn.init.constant_(frozen.bias, -100.0)
    nn.init.zeros_(head.weight)  # the slope of the root at zero, infinite, times a gradient of zero
    model = nn.Sequential(frozen, nn.ReLU(), _Root(), head)
    raises = pytest.raises(
        RuntimeError, match=r"Function 'SqrtBackward0' returned nan values in its 0th output\."
    )
    with (
        torch.autograd.set_detect_anomaly(anomaly),
        raises if approach == "B" and anomaly else nullcontext(),
    ):
        backward(loss_of(model, batch(seed)))
    assert (frozen.bias.grad is None) == (approach == "A" or anomaly)
    assert head.bias.grad is not None
    assert bool(head.bias.grad.isfinite().all())


@FACT
@given(seed=SEEDS, mask=MASKS, everything=st.booleans(), inputs=st.booleans())
def test_backward_through_a_frozen_model_needs_an_input_that_requires_grad(
    seed: int, mask: Mask, everything: bool, inputs: bool
) -> None:
    """Backward raises exactly if all parameters are frozen and the input does not require grad.

    Frozen weights get no gradient.

    Row 22: https://github.com/pyg-team/pytorch_geometric/pull/9996
    """
    model, _ = twins(seed, mask)
    model.requires_grad_(False) if everything else None
    before, samples = weights(model), batch(seed).requires_grad_(inputs)
    refused = pytest.raises(
        RuntimeError, match="element 0 of tensors does not require grad and does not have a grad_fn"
    )
    with refused if everything and not inputs else nullcontext():
        backward(loss_of(model, samples))
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert (samples.grad is not None) == inputs
    assert [each is None for each in gradient_bits(model.parameters())] == [
        everything or frozen for frozen in mask
    ]
    assert [old == new for old, new in zip(before, weights(model), strict=True)] == [
        everything or frozen for frozen in mask
    ]


@FACT
@given(seed=SEEDS, frozen=st.integers(0, 5), inputs=st.booleans())
def test_backward_hooks_of_a_frozen_prefix_do_not_fire(
    seed: int, frozen: int, inputs: bool
) -> None:
    """The full backward hook of a module fires exactly if its output requires grad.

    So it never fires in the frozen prefix of A.

    Row 54: https://github.com/pytorch/pytorch/issues/56380
    """
    model = network(seed)
    model[:frozen].requires_grad_(False)
    fired: set[int] = set()
    for place, module in enumerate(model):
        module.register_full_backward_hook(lambda *_, place=place: fired.add(place))
    loss = loss_of(model, batch(seed).requires_grad_(inputs))
    if loss.requires_grad:
        backward(loss)
    from_here = 0 if inputs else frozen + frozen % 2  # the layers at odd places have no parameters
    assert fired == set(range(from_here, 5))


def _step_in_backward(value: nn.Parameter) -> None:
    optimizer = torch.optim.SGD([value], lr=0.1)
    value.register_post_accumulate_grad_hook(lambda _: optimizer.step())  # type: ignore[no-untyped-call]


@FACT
@given(seed=SEEDS, mask=MASKS)
def test_an_optimizer_in_backward_misses_what_thaws_later(seed: int, mask: Mask) -> None:
    """Hooks that step in backward never step a parameter that is thawed after they were installed.

    Row 55: https://github.com/pytorch/pytorch/issues/76464
    """
    model, _ = twins(seed, mask)
    for each in chosen(model, mask, frozen=False):
        _step_in_backward(each)
    model.requires_grad_(True)
    before = weights(model)
    backward(loss_of(model, batch(seed)))
    assert [old == new for old, new in zip(before, weights(model), strict=True)] == list(mask)
    assert None not in gradient_bits(model.parameters())


@pytest.mark.parametrize(
    "name",
    [name for name in OPTIMIZER_NAMES if name not in ("LBFGS", "SparseAdam", "Muon", "Adafactor")],
)
@pytest.mark.parametrize("frozen", [True, False])
def test_a_differentiable_optimizer_steps_frozen_leaves_only(name: str, frozen: bool) -> None:
    """With differentiable=True, a step raises exactly if the leaf requires grad.

    It updates the leaf in place.

    Row 56: no public report
    """
    value = nn.Parameter(torch.ones(2), requires_grad=not frozen)
    value.grad = torch.ones(2)
    optimizer = getattr(torch.optim, name)([value], lr=0.1, differentiable=True)
    refused = pytest.raises(
        RuntimeError,
        match="a leaf Variable that requires grad is being used in an in-place operation",
    )
    with nullcontext() if frozen else refused:
        optimizer.step()
    assert (bits(value) == bits(torch.ones(2))) == (not frozen)


PREFIXES: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "requires_grad=False": lambda prefix, inputs: prefix.requires_grad_(False)(inputs),
    "no_grad": lambda prefix, inputs: torch.no_grad()(prefix)(inputs),
    "detach": lambda prefix, inputs: prefix(inputs).detach(),
    "inference_mode and clone": lambda prefix, inputs: torch.inference_mode()(prefix)(
        inputs
    ).clone(),
}


@pytest.mark.parametrize("way", PREFIXES)
@FACT
@given(seed=SEEDS, prefix=st.integers(1, 4))
def test_a_frozen_prefix_may_run_without_a_graph(way: str, seed: int, prefix: int) -> None:
    """A prefix frozen in any of these ways leaves the other layers the bits of the plain gradient.

    Row 57: https://github.com/pytorch/pytorch/pull/161164
    """
    model, plain = network(seed), network(seed)
    backward(loss_of(plain, batch(seed)))
    backward(model[prefix:](PREFIXES[way](model[:prefix], batch(seed))).square().mean())
    assert gradient_bits(model[prefix:].parameters()) == gradient_bits(plain[prefix:].parameters())
    assert set(gradient_bits(model[:prefix].parameters())) == {None}


@FACT
@given(seed=SEEDS, trains=st.booleans())
def test_inference_tensors_cannot_be_saved_for_backward(seed: int, trains: bool) -> None:
    """The output of inference_mode raises in a trainable layer, which would save it.

    A frozen layer takes it.

    Row 57: https://github.com/facebookresearch/dinov2/issues/399
    """
    model = network(seed)
    with torch.inference_mode():
        hidden = model[0](batch(seed))
    layer = model[2].requires_grad_(trains)
    with (
        pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward")
        if trains
        else nullcontext()
    ):
        assert not layer(hidden).requires_grad


def test_a_parameter_built_under_inference_mode_cannot_be_thawed() -> None:
    """A frozen parameter that was built under inference_mode cannot be thawed outside of it.

    Row 57: https://github.com/pytorch/pytorch/pull/161164
    """
    with torch.inference_mode():
        layer = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(
        RuntimeError,
        match="Setting requires_grad=True on inference tensor outside InferenceMode is not allowed",
    ):
        layer.requires_grad_(True)
    assert not layer.weight.requires_grad


def _nodes(roots: list[Tensor]) -> int:
    """Count the nodes of the graph that can be reached from these tensors."""
    seen: set[object] = set()
    waiting = [each.grad_fn for each in roots]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return len(seen)


@FACT
@given(
    seed=SEEDS, steps=st.integers(2, 4), create_graph=st.booleans(), approach=st.sampled_from("AB")
)
def test_gradients_with_a_graph_keep_every_step_alive_in_b(
    seed: int, steps: int, create_graph: bool, approach: str
) -> None:
    """With create_graph=True, the leftover gradients of B hold the graph of every step since.

    A has none.

    Row 58: https://pytorch.org/docs/stable/generated/torch.Tensor.backward.html
    """
    model = network(seed)
    model[0].requires_grad_(approach == "B")
    sizes = []
    for step in range(steps):
        model[2:].zero_grad()
        loss_of(model, batch(seed + step)).backward(create_graph=create_graph)  # type: ignore[no-untyped-call]
        sizes.append(_nodes([each.grad for each in model[0].parameters() if each.grad is not None]))
    grows = all(later > earlier > 0 for earlier, later in pairwise(sizes))
    assert grows == (create_graph and approach == "B")
    model.zero_grad()  # a gradient with a graph and its parameter hold each other


@FACT
@given(seed=SEEDS, mask=MASKS)
def test_second_derivatives_agree(seed: int, mask: Mask) -> None:
    """A gradient penalty over the trainable parameters gives A and B the same bits.

    Row 58: https://pytorch.org/docs/stable/generated/torch.Tensor.backward.html
    """
    found = []
    for model in twins(seed, mask):
        trainable = chosen(model, mask, frozen=False)
        first = torch.autograd.grad(loss_of(model, batch(seed)), trainable, create_graph=True)
        penalty = torch.stack([each.square().sum() for each in first]).sum()
        found.append([bits(each) for each in torch.autograd.grad(penalty, trainable)])
    assert found[0] == found[1]


@FACT
@given(seed=SEEDS, approach=st.sampled_from("AB"), inplace=st.booleans())
def test_an_in_place_activation_behind_a_frozen_prefix_breaks_b_alone(
    seed: int, approach: str, inplace: bool
) -> None:
    """An in-place ReLU behind a frozen Sigmoid raises in the backward pass of B.

    It overwrites what the Sigmoid would need. A saves nothing there.

    Row 61: https://github.com/pytorch/pytorch/issues/5687
    """
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 3), nn.Sigmoid(), nn.ReLU(inplace=inplace), nn.Linear(3, 1))
    model[0].requires_grad_(approach == "B")
    broken = pytest.raises(
        RuntimeError,
        match="needed for gradient computation has been modified by an inplace",
    )
    with broken if inplace and approach == "B" else nullcontext():
        backward(loss_of(model, batch(seed)))
    assert (model[0].weight.grad is None) == (approach == "A" or inplace)


@FACT
@given(seed=SEEDS, inplace=st.booleans(), frozen=st.booleans(), steps=STEPS)
def test_an_in_place_first_layer_overwrites_the_batch(
    seed: int, inplace: bool, frozen: bool, steps: int
) -> None:
    """An in-place first layer changes the batch of the caller, whether the model is frozen or not.

    Row 61: https://github.com/pytorch/pytorch/issues/5687
    """
    model = nn.Sequential(nn.ReLU(inplace=inplace), network(seed).requires_grad_(not frozen))
    samples = batch(seed)
    before = bits(samples)
    for _ in range(steps):
        model(samples)
    assert (bits(samples) != before) == inplace
