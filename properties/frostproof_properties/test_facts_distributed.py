"""Facts of torch: frozen parameters where several ranks train together."""

from __future__ import annotations

import pytest
from torch import distributed

from frostproof_properties.on_ranks import network, ranks

pytestmark = pytest.mark.skipif(
    not distributed.is_available(), reason="torch has no torch.distributed"
)


def test_ddp_refuses_a_model_with_nothing_trainable() -> None:
    """Freeze it, and do not wrap it.

    Row 45: https://github.com/pytorch/pytorch/issues/45325
    """
    with ranks() as ask:
        for text in ask("nothing_trainable"):
            assert "any parameter that requires a gradient" in text


def test_what_is_frozen_after_wrapping_keeps_the_reducer_waiting() -> None:
    """A search for unused parameters, or wrapping anew, mends it.

    Row 46: https://github.com/pytorch/pytorch/issues/22049
    """
    with ranks() as ask:
        for plain, searching in ask("frozen_after_wrapping"):
            assert "Expected to have finished reduction in the prior iteration" in plain
            assert searching == ""


def test_what_is_thawed_after_wrapping_is_never_reduced() -> None:
    """Replicas drift apart in silence, unless the model is wrapped anew.

    Row 47: no public report
    """
    with ranks() as ask:
        (kept, anew), (others_kept, others_anew) = ask("thawed_after_wrapping")
        alike = [mine == theirs for mine, theirs in zip(kept, others_kept, strict=True)]
        assert alike == [False, False, True, True]
        assert anew == others_anew


def test_ddp_reduces_the_gradients_of_frozen_parameters_in_b() -> None:
    """In A it reduces those of trainable parameters only.

    Row 48: no public report
    """
    model = network()
    sizes = [parameter.numel() for parameter in model.parameters()]
    with ranks() as ask:
        for a, b in ask("reduced_elements"):
            assert (a, b) == (sum(sizes[2:]), sum(sizes))


def test_flat_parameters_refuse_mixed_flags() -> None:
    """With `use_orig_params=True`, and in FSDP2, flags may be mixed.

    Row 49: https://github.com/pytorch/pytorch/issues/104690
    """
    with ranks() as ask:
        for text in ask("flat_parameters"):
            assert "Must flatten tensors with uniform `requires_grad`" in text
