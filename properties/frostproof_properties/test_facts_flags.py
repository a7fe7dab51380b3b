"""Facts of torch: what sets `requires_grad`, what only seems to set it, and what asks for it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from frostproof.training.bits import bits, gradient_bits
from frostproof_properties.facts import (
    BRIEF,
    FACT,
    MASKS,
    SEEDS,
    Mask,
    backward,
    batch,
    chosen,
    loss_of,
    network,
    twins,
    weights,
)


class _Scaled(nn.Module):
    """A layer, and a parameter that hangs on the module itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs) * self.scale
        return outputs


def _children(model: nn.Module) -> None:
    for child in model.children():
        child.requires_grad_(False)


def _attribute(name: str, of_module: bool) -> Callable[[nn.Module], None]:
    def act(model: nn.Module) -> None:
        for each in model.modules() if of_module else model.parameters():
            setattr(each, name, False)

    return act


FREEZES: dict[str, tuple[Callable[[nn.Module], object], set[str]]] = {
    "module.requires_grad_(False)": (
        lambda model: model.requires_grad_(False),
        {"layer.weight", "layer.bias", "scale"},
    ),
    "parameter.requires_grad = False": (
        _attribute("requires_grad", of_module=False),
        {"layer.weight", "layer.bias", "scale"},
    ),
    "module.requires_grad = False": (_attribute("requires_grad", of_module=True), set()),
    "parameter.require_grad = False": (_attribute("require_grad", of_module=False), set()),
    "module.eval()": (lambda model: model.eval(), set()),
    "a loop over children()": (_children, {"layer.weight", "layer.bias"}),
}


@pytest.mark.parametrize("way", FREEZES)
@BRIEF
@given(seed=SEEDS)
def test_look_alikes_freeze_nothing(way: str, seed: int) -> None:
    """A module attribute, a misspelt attribute and eval() freeze nothing.

    A loop over `children()` misses parameters of the module itself.

    Row 9: https://discuss.pytorch.org/t/123621
    """
    act, frozen = FREEZES[way]
    torch.manual_seed(seed)
    model = _Scaled()
    act(model)
    before = dict(zip(dict(model.named_parameters()), weights(model), strict=True))
    loss = loss_of(model, batch(seed))
    if loss.requires_grad:
        backward(loss)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert {
        name for name, value in model.named_parameters() if bits(value) == before[name]
    } == frozen


@FACT
@given(seed=SEEDS, mask=MASKS)
def test_the_optimizer_reads_no_flag_from_its_groups(seed: int, mask: Mask) -> None:
    """A `requires_grad` key of a parameter group is kept and ignored.

    A model built under no_grad is trainable.

    Row 9: https://github.com/allenai/allennlp/pull/4502
    """
    with torch.no_grad():
        model = network(seed)
    assert all(each.requires_grad for each in model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": chosen(model, mask, frozen=True), "requires_grad": False},
        {"params": chosen(model, mask, frozen=False)},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    before = weights(model)
    backward(loss_of(model, batch(seed)))
    optimizer.step()
    assert optimizer.param_groups[0]["requires_grad"] is False
    assert not any(old == new for old, new in zip(before, weights(model), strict=True))


def _after(model: nn.Sequential, _: object) -> nn.Sequential:
    return model


MOVES: dict[str, Callable[[nn.Sequential], nn.Module]] = {
    "load_state_dict": lambda model: _after(model, model.load_state_dict(network(1).state_dict())),
    "load_state_dict(assign)": lambda model: _after(
        model, model.load_state_dict(network(1).state_dict(), assign=True)
    ),
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "to(dtype)": lambda model: model.to(torch.float64),
    "to(meta)": lambda model: model.to("meta"),
    "train().eval()": lambda model: model.train().eval(),
}


@pytest.mark.parametrize("move", MOVES)
@BRIEF
@given(mask=MASKS)
def test_flags_survive_loading_copying_and_moving(move: str, mask: Mask) -> None:
    """Loading, copying, pickling and moving a model keep every flag.

    Row 10: https://github.com/ultralytics/yolov5/issues/1213
    """
    a, _ = twins(0, mask)
    assert [not each.requires_grad for each in MOVES[move](a).parameters()] == list(mask)


PARAMETRIZATIONS: dict[str, tuple[Callable[[nn.Module], nn.Module], bool]] = {
    "nn.utils.weight_norm": (nn.utils.weight_norm, False),
    "nn.utils.spectral_norm": (nn.utils.spectral_norm, True),
    "parametrizations.weight_norm": (nn.utils.parametrizations.weight_norm, True),
    "parametrizations.spectral_norm": (nn.utils.parametrizations.spectral_norm, True),
    "parametrizations.orthogonal": (nn.utils.parametrizations.orthogonal, True),
}


@pytest.mark.parametrize("api", PARAMETRIZATIONS)
@BRIEF
@given(seed=SEEDS, frozen=st.booleans())
def test_the_old_weight_norm_thaws(api: str, seed: int, frozen: bool) -> None:
    """The old nn.utils.weight_norm makes the weight of a frozen layer trainable.

    The other parametrizations keep it frozen.

    Row 43: https://github.com/openvinotoolkit/nncf/pull/1309
    """
    apply, keeps = PARAMETRIZATIONS[api]
    torch.manual_seed(seed)
    layer = apply(nn.Linear(3, 3).requires_grad_(not frozen))
    trainable = {name for name, value in layer.named_parameters() if value.requires_grad}
    assert (trainable == set()) == (frozen and keeps)
    assert ("bias" in trainable) == (not frozen)


@pytest.mark.parametrize(
    "api",
    [
        "parametrizations.weight_norm",
        "parametrizations.spectral_norm",
        "parametrizations.orthogonal",
    ],
)
def test_a_computed_weight_cannot_be_frozen_itself(api: str) -> None:
    """The flag of a computed `weight` cannot be set.

    requires_grad_ of the module freezes the parameters that it is computed from.

    Row 42: https://github.com/facebookresearch/fairscale/issues/1126
    """
    layer = PARAMETRIZATIONS[api][0](nn.Linear(3, 3))
    weight = layer.weight
    assert isinstance(weight, Tensor)
    says = (
        "you can only change requires_grad flags of leaf variables. If you want to use a "
        "computed variable in a subgraph that doesn't require differentiation use "
        "var_no_grad = var.detach()."
    )
    with pytest.raises(RuntimeError) as error:
        weight.requires_grad_(False)
    assert str(error.value) == says
    assert not layer.requires_grad_(False)(torch.ones(1, 3)).requires_grad


@FACT
@given(mask=MASKS)
def test_torch_func_differentiates_what_is_frozen(mask: Mask) -> None:
    """torch.func.grad gives a gradient for every parameter in its argument, whatever the flags.

    Row 52: https://github.com/pytorch/functorch/pull/701
    """
    a, _ = twins(0, mask)
    gradients = torch.func.grad(
        lambda values: torch.func.functional_call(a, values, (batch(0),)).square().mean()
    )(dict(a.named_parameters()))
    assert all(float(each.abs().sum()) > 0 for each in gradients.values())
    assert [each.requires_grad for each in a.parameters()] == [not frozen for frozen in mask]


def _same(gradient: Tensor) -> Tensor:
    return gradient


def _post_hook(value: Tensor) -> None:
    value.register_post_accumulate_grad_hook(lambda _: None)  # type: ignore[no-untyped-call]


ASKS: dict[str, tuple[Callable[[Tensor, Tensor], object], str]] = {
    "register_hook": (
        lambda value, loss: value.register_hook(_same),  # type: ignore[no-untyped-call]
        "cannot register a hook on a tensor that doesn't require gradient",
    ),
    "register_post_accumulate_grad_hook": (
        lambda value, loss: _post_hook(value),
        "cannot register a hook on a tensor that doesn't require gradient",
    ),
    "retain_grad": (
        lambda value, loss: value.retain_grad(),
        r"can't retain_grad on Tensor that has requires_grad=False",
    ),
    "autograd.grad": (
        lambda value, loss: torch.autograd.grad(loss, [value]),
        "One of the differentiated Tensors does not require grad",
    ),
    "autograd.grad(allow_unused)": (
        lambda value, loss: torch.autograd.grad(loss, [value], allow_unused=True),
        "One of the differentiated Tensors does not require grad",
    ),
    "backward(inputs)": (
        lambda value, loss: loss.backward(inputs=[value]),  # type: ignore[no-untyped-call]
        "can't retain_grad on Tensor that has requires_grad=False",
    ),
}


@pytest.mark.parametrize("ask", ASKS)
@BRIEF
@given(mask=MASKS, place=st.integers(0, 5))
def test_asking_a_frozen_parameter_for_its_gradient_raises(
    ask: str, mask: Mask, place: int
) -> None:
    """To ask for the gradient of a parameter raises exactly if the parameter is frozen.

    This holds for hooks, retain_grad, and autograd.grad or backward of a chosen parameter.

    Rows 53 and 59: https://github.com/pytorch/pytorch/pull/107063
    and https://github.com/pytorch/pytorch/issues/56876
    """
    a, _ = twins(0, mask)
    act, says = ASKS[ask]
    with pytest.raises(RuntimeError, match=says) if mask[place] else nullcontext():
        act(list(a.parameters())[place], loss_of(a, batch(0)))


INTEGERS = (torch.uint8, torch.int32, torch.int64, torch.bool)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
def test_integers_can_be_frozen_and_never_thawed(dtype: torch.dtype) -> None:
    """A parameter of integers or booleans exists only frozen.

    To thaw it, or a whole model that has one, raises.

    Row 60: https://github.com/pytorch/pytorch/issues/99264
    """
    model = nn.Module()
    model.register_parameter("codes", nn.Parameter(torch.ones(2, dtype=dtype), requires_grad=False))
    says = "[Oo]nly Tensors of floating point (and complex )?dtype can require"
    for act in (
        lambda: nn.Parameter(torch.ones(2, dtype=dtype)),
        lambda: model.requires_grad_(True),
    ):
        with pytest.raises(RuntimeError, match=says) if dtype in INTEGERS else nullcontext():
            act()
    assert all(each.requires_grad == (dtype in FLOATS) for each in model.parameters())


@FACT
@given(width=st.integers(1, 4), early=st.booleans())
def test_a_lazy_module_is_frozen_by_attribute(width: int, early: bool) -> None:
    """Before the first batch, requires_grad_() on a lazy module raises.

    Setting the attribute of its parameters works and lasts.

    Row 62: https://github.com/pytorch/pytorch/issues/53366
    """
    layer = nn.LazyLinear(2)
    if not early:
        layer(torch.ones(1, width))
    with pytest.raises(ValueError, match="uninitialized parameter") if early else nullcontext():
        layer.requires_grad_(False)
    for each in layer.parameters():
        each.requires_grad = False
    layer(torch.ones(1, width))
    assert [each.requires_grad for each in layer.parameters()] == [False, False]
    assert layer.weight.shape == (2, width)


@pytest.mark.parametrize("lazy", [True, False])
def test_adagrad_refuses_lazy_parameters(lazy: bool) -> None:
    """Adagrad allocates state at once, so it cannot be built over uninitialized parameters.

    SGD can.

    Row 62: https://github.com/pytorch/pytorch/issues/53366
    """
    parameters = list((nn.LazyLinear(2) if lazy else nn.Linear(3, 2)).parameters())
    assert len(torch.optim.SGD(parameters).param_groups[0]["params"]) == 2
    with (
        pytest.raises((ValueError, RuntimeError), match="uninitialized parameter")
        if lazy
        else nullcontext()
    ):
        torch.optim.Adagrad(parameters)


@FACT
@given(seed=SEEDS, mask=MASKS, thaw=st.booleans(), late=st.booleans())
def test_a_flag_must_stand_from_forward_to_backward(
    seed: int, mask: Mask, thaw: bool, late: bool
) -> None:
    """A parameter gets a gradient only if it requires grad in the forward and in the backward pass.

    Row 67: https://github.com/pytorch/pytorch/issues/56876
    """
    model = network(seed)
    changed = chosen(model, mask, frozen=True)
    rest = chosen(model, mask, frozen=False)

    def flip() -> None:
        for each in changed:
            each.requires_grad_(thaw)

    for each in changed:
        each.requires_grad_(not thaw)
    if not late:
        flip()
    loss = loss_of(model, batch(seed))
    if late:
        flip()
    backward(loss)
    assert [each is None for each in gradient_bits(changed)] == [late or not thaw] * len(changed)
    assert None not in gradient_bits(rest)


@FACT
@given(seed=SEEDS, mask=MASKS)
def test_a_copy_has_no_gradients(seed: int, mask: Mask) -> None:
    """deepcopy of a model drops every `.grad`, so a copy of B has no leftover gradients.

    Row 68: no public report
    """
    a, _ = twins(seed, mask)
    backward(loss_of(a, batch(seed)))
    copied = copy.deepcopy(a)
    assert [each is None for each in gradient_bits(a.parameters())] == list(mask)
    assert gradient_bits(copied.parameters()) == (None,) * 6
    assert weights(copied) == weights(a)
