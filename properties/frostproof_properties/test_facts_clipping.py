"""Facts of torch: clipping and loss scaling, which read the frozen gradients of approach B too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from frostproof.training.bits import bits, gradient_bits
from frostproof_properties.facts import (
    FACT,
    MASKS,
    SEEDS,
    Mask,
    backward,
    batch,
    chosen,
    loss_of,
    parameter,
    twins,
)

clip_norm, clip_value = nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_


def _with_gradients(
    seed: int, mask: Mask, scale: float = 1.0
) -> tuple[nn.Module, nn.Module, list[nn.Parameter], list[nn.Parameter]]:
    """A, B, and the trainable parameters of each, after a first backward pass."""
    a, b = twins(seed, mask)
    for model in (a, b):
        backward(loss_of(model, batch(seed)) * scale)
    return a, b, chosen(a, mask, frozen=False), chosen(b, mask, frozen=False)


def _norm(parameters: list[nn.Parameter]) -> float:
    return float(
        nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
    )


@FACT
@given(seed=SEEDS, mask=MASKS, limit=st.sampled_from((0.1, 0.5, 0.9, 1.1, 10.0)))
def test_clipping_the_norm_of_everything_differs_where_the_limit_bites(
    seed: int, mask: Mask, limit: float
) -> None:
    """Clipping by norm over `model.parameters()` can make B differ from A.

    It does so exactly if the limit is below the norm of B, though every gradient is of this step.

    Row 16: https://github.com/lcswillems/torch-ac/pull/5
    """
    a, b, trainable_a, trainable_b = _with_gradients(seed, mask)
    most = limit * _norm([*b.parameters()])
    clip_norm(a.parameters(), most)
    clip_norm(b.parameters(), most)
    assert (gradient_bits(trainable_a) != gradient_bits(trainable_b)) == (limit < 1)


@FACT
@given(seed=SEEDS, mask=MASKS, limit=st.sampled_from((0.1, 0.5, 0.9, 1.1, 10.0)))
def test_clipping_the_norm_of_what_is_trainable_agrees(seed: int, mask: Mask, limit: float) -> None:
    """Clipping by norm over what its optimizer owns gives B the bits of A, whatever the limit.

    Row 16: https://nvidia.github.io/apex/advanced.html#gradient-clipping
    """
    a, _, trainable_a, trainable_b = _with_gradients(seed, mask)
    most = limit * _norm(trainable_b)
    before = gradient_bits(trainable_b)
    clip_norm(a.parameters(), most)
    clip_norm(trainable_b, most)
    assert gradient_bits(trainable_a) == gradient_bits(trainable_b)
    assert (gradient_bits(trainable_b) != before) == (limit < 1)


@FACT
@given(seed=SEEDS, mask=MASKS, limit=st.sampled_from((0.001, 0.01, 0.1)))
def test_clipping_values_agrees_and_clamps_what_piled_up(
    seed: int, mask: Mask, limit: float
) -> None:
    """Clipping by value over `model.parameters()` gives B's trainable gradients the bits of A.

    The gradients of its frozen parameters are clamped.

    Row 17: no public report
    """
    a, b, trainable_a, trainable_b = _with_gradients(seed, mask)
    clip_value(a.parameters(), limit)
    clip_value(b.parameters(), limit)
    assert gradient_bits(trainable_a) == gradient_bits(trainable_b)
    frozen = [each.grad for each in chosen(b, mask, frozen=True)]
    assert all(
        each is not None and float(each.abs().max()) <= torch.tensor(limit).item()
        for each in frozen
    )


@FACT
@given(seed=SEEDS, mask=MASKS, frozen=st.booleans(), foreach=st.sampled_from((None, True, False)))
def test_clipping_values_refuses_to_clip_nothing(
    seed: int, mask: Mask, frozen: bool, foreach: bool | None
) -> None:
    """clip_grad_value_ raises exactly if no parameter has a gradient, as when all are frozen.

    clip_grad_norm_ then returns zero.

    Row 70: https://github.com/xingyizhou/UniDet/issues/24
    """
    a, *_ = _with_gradients(seed, mask)
    parameters = chosen(a, mask, frozen=frozen)
    norm = float(clip_norm(parameters, 1.0, foreach=foreach))
    assert (norm == 0.0) == frozen
    if frozen:
        with pytest.raises(
            RuntimeError, match=r"Expected !nested_tensorlist\[0\]\.empty\(\) to be true"
        ):
            clip_value(parameters, norm, foreach=foreach)
    else:
        before = gradient_bits(parameters)
        clip_value(parameters, norm / 100, foreach=foreach)
        assert gradient_bits(parameters) != before
    clip_value(a.parameters(), 1.0, foreach=foreach)  # some have one


@FACT
@given(
    seed=SEEDS,
    mask=MASKS,
    over=st.sampled_from(("everything", "trainable")),
    limit=st.sampled_from((0.01, 0.1)),
)
def test_unscaling_leaves_frozen_gradients_scaled(
    seed: int, mask: Mask, over: str, limit: float
) -> None:
    """GradScaler.unscale_ divides only the gradients that the optimizer owns.

    Clipping over everything then drowns them in B's frozen gradients, which are still multiplied by
    the loss scale. Clipping the trainable ones gives the bits of A.

    Row 18: https://github.com/pytorch/examples/pull/1196
    """
    scale = 65536.0
    a, b, trainable_a, trainable_b = _with_gradients(seed, mask, scale)
    plain = _with_gradients(seed, mask)[2]
    for model, owned in ((a, list(a.parameters())), (b, trainable_b)):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(torch.zeros(()))
        scaler.unscale_(torch.optim.SGD(owned))
        assert gradient_bits(chosen(model, mask, frozen=False)) == gradient_bits(
            plain
        )  # the scale is a power of two
    frozen = _norm(chosen(b, mask, frozen=True))
    clip_norm(a.parameters(), limit)
    clip_norm(b.parameters() if over == "everything" else trainable_b, limit)
    if over == "trainable":
        assert gradient_bits(trainable_a) == gradient_bits(trainable_b)
    else:
        assert _norm(trainable_b) <= 1.01 * limit * _norm(plain) / frozen
        assert _norm(trainable_b) < _norm(trainable_a) / 100


@FACT
@given(seed=SEEDS, mask=MASKS, bad=st.sampled_from((float("inf"), float("nan"))))
def test_one_bad_frozen_gradient_spoils_the_norm_of_everything(
    seed: int, mask: Mask, bad: float
) -> None:
    """In B, one bad frozen gradient spoils every trainable one when the whole model is clipped.

    An inf makes them zero, and a NaN makes them NaN. A has no such gradient.

    Row 19: no public report
    """
    a, b, trainable_a, trainable_b = _with_gradients(seed, mask)
    spoilt = chosen(b, mask, frozen=True)[0].grad
    assert spoilt is not None
    spoilt.view(-1)[0] = bad
    with pytest.raises(RuntimeError, match="is non-finite, so it cannot be clipped"):
        clip_norm(b.parameters(), 1.0, error_if_nonfinite=True)
    clip_norm(a.parameters(), 1.0, error_if_nonfinite=True)
    clip_norm(b.parameters(), 1.0)
    assert 0 < _norm(trainable_a) < float("inf")
    gradients = torch.cat([each.grad.flatten() for each in trainable_b if each.grad is not None])
    assert bool((gradients == 0).all() if bad == float("inf") else gradients.isnan().all())


@FACT
@given(seed=SEEDS, mask=MASKS, where=st.sampled_from(("frozen", "trainable")))
def test_a_scaler_looks_for_inf_in_what_the_optimizer_owns(
    seed: int, mask: Mask, where: str
) -> None:
    """An inf in a frozen gradient of B skips no step and leaves the loss scale.

    An inf in a trainable one skips the step and halves the scale.

    Row 21: https://github.com/nerfstudio-project/nerfstudio/pull/1919
    """
    _, b, _, trainable = _with_gradients(seed, mask)
    spoilt = chosen(b, mask, frozen=where == "frozen")[0].grad
    assert spoilt is not None
    spoilt.view(-1)[0] = float("inf")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.zeros(()))
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    before = [each.detach().clone() for each in trainable]
    scaler.step(optimizer)
    scaler.update()
    moved = any(not torch.equal(old, new) for old, new in zip(before, trainable, strict=True))
    assert (moved, scaler.get_scale()) == ((True, 1024.0) if where == "frozen" else (False, 512.0))


@FACT
@given(seed=SEEDS, mask=MASKS, frozen=st.booleans())
def test_a_scaler_refuses_an_optimizer_without_gradients(
    seed: int, mask: Mask, frozen: bool
) -> None:
    """GradScaler.step raises exactly if no parameter of the optimizer has a gradient.

    Row 21: https://github.com/nerfstudio-project/nerfstudio/pull/1919
    """
    a, _, trainable, _ = _with_gradients(seed, mask)
    optimizer = torch.optim.SGD(chosen(a, mask, frozen=True) if frozen else trainable, lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.zeros(()))
    if frozen:
        with pytest.raises(AssertionError, match="No inf checks were recorded for this optimizer"):
            scaler.step(optimizer)
    else:
        before = [each.detach().clone() for each in trainable]
        scaler.step(optimizer)
        assert not all(map(torch.equal, before, trainable))


@contextmanager
def _memory_filled() -> Iterator[None]:
    """Fill new memory with NaN, so that a read before the first write shows."""
    settings: Any = torch.utils.deterministic
    before, strict = (
        settings.fill_uninitialized_memory,
        torch.are_deterministic_algorithms_enabled(),
    )
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    settings.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = before
        torch.use_deterministic_algorithms(strict, warn_only=warns)


IMPLEMENTATIONS: dict[str, dict[str, Any]] = {
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@FACT
@given(seed=SEEDS, skipped=st.booleans(), momentum=st.sampled_from((0.0, 0.9)))
def test_fused_momentum_is_never_written_if_its_first_step_is_skipped(
    implementation: str, seed: int, skipped: bool, momentum: float
) -> None:
    """SGD(fused=True) reads momentum that nobody wrote if a GradScaler skips the first step.

    The skipped step allocates the buffers, and the next step trains on whatever the memory held.
    Other implementations allocate nothing, and no other case is affected.

    Row 75: https://github.com/LibreYOLO/libreyolo/pull/771
    """
    value = parameter(seed)
    before = bits(value)
    optimizer = torch.optim.SGD(
        [value], lr=0.1, momentum=momentum, **IMPLEMENTATIONS[implementation]
    )
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with _memory_filled():
        for bad in (skipped, False):
            optimizer.zero_grad()
            loss = scaler.scale(value.square().sum())
            backward(loss * float("inf") if bad else loss)
            scaler.step(optimizer)
            scaler.update()
            assert (bits(value) == before) == bad  # skipped, as it should be
    lost = implementation == "fused" and skipped and momentum > 0
    assert bool(value.isnan().all()) == lost
    assert bool(value.isfinite().all()) == (not lost)


class _GlobalNorm(torch.optim.SGD):
    """SGD on gradients divided by the common norm of all gradients that it looks at."""

    def __init__(self, owned: list[nn.Parameter], seen: list[nn.Parameter]) -> None:
        super().__init__(owned, lr=0.1)
        self.seen = seen

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        norm = _norm(self.seen)
        for each in self.param_groups[0]["params"]:
            if each.grad is not None:
                each.grad /= norm
        super().step()


@FACT
@given(seed=SEEDS, mask=MASKS, wide=st.booleans())
def test_an_optimizer_with_a_global_norm_must_read_what_it_owns(
    seed: int, mask: Mask, wide: bool
) -> None:
    """An optimizer that normalises by all gradients must read those that it owns only.

    It trains A and B alike, to the bit, exactly if it does not read the whole model.

    Row 65: https://github.com/konstmish/prodigy
    """
    a, b, trainable_a, trainable_b = _with_gradients(seed, mask)
    for model, owned in ((a, [*a.parameters()]), (b, trainable_b)):
        _GlobalNorm(owned, [*model.parameters()] if wide else owned).step()
    same = all(
        torch.equal(left, right) for left, right in zip(trainable_a, trainable_b, strict=True)
    )
    assert same == (not wide)
    assert _moved(seed, mask, trainable_a)


def _moved(seed: int, mask: Mask, parameters: list[nn.Parameter]) -> bool:
    before: list[Tensor] = [*chosen(twins(seed, mask)[0], mask, frozen=False)]
    return not any(torch.equal(old, new) for old, new in zip(before, parameters, strict=True))
