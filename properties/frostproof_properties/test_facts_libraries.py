"""Facts of libraries that freeze for people. A library that is not installed is skipped by name."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frostproof.training.bits import bits

INSTALL = "pip install 'frostproof[ways]'"


def _step(model: Any, optimizer: Any, x: Tensor) -> None:
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def _owned(optimizer: Any) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def test_lightning_takes_equal_values_for_the_same_parameter() -> None:
    """A thawed parameter never trains if the optimizer has another one of the same values.

    `BaseFinetuning.unfreeze_and_add_param_group` looks for it with torch.equal. The weights of all
    new norms of one size are equal.

    Row 63: no public report
    """
    callbacks = pytest.importorskip("lightning.pytorch.callbacks", reason=INSTALL)
    for scale, is_added in ((1.0, False), (2.0, True)):
        model: Any = nn.Sequential(nn.LayerNorm(3, bias=False), nn.LayerNorm(3, bias=False))
        nn.init.constant_(model[0].weight, scale)
        model[0].requires_grad_(False)
        optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
        with nullcontext() if is_added else pytest.warns(UserWarning, match="already exist"):
            callbacks.BaseFinetuning.unfreeze_and_add_param_group(model[0], optimizer, lr=0.1)
        assert model[0].weight.requires_grad
        assert (id(model[0].weight) in _owned(optimizer)) == is_added


def test_lightning_freezes_no_batch_norm_unless_it_is_told() -> None:
    """`BaseFinetuning.freeze` leaves batch norms trainable, as train_bn=True is its default.

    With train_bn=False it stops their running statistics, which eval() alone does not need.

    Row 63: https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.BaseFinetuning.html
    """
    callbacks = pytest.importorskip("lightning.pytorch.callbacks", reason=INSTALL)
    for train_bn in (True, False):
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        callbacks.BaseFinetuning.freeze(model, train_bn=train_bn)
        assert not model[0].weight.requires_grad
        assert model[1].weight.requires_grad == train_bn
        assert model[1].track_running_stats == train_bn


def test_lightning_freezes_again_what_had_thawed_when_it_resumes(tmp_path: Path) -> None:
    """`BaseFinetuning` restores the groups of the optimizer from a checkpoint, and no flags.

    What thawed before the checkpoint is in the optimizer, and does not train any more.

    Row 63: https://github.com/Lightning-AI/pytorch-lightning/issues/21901
    """
    lightning = pytest.importorskip("lightning.pytorch", reason=INSTALL)

    class Module(lightning.LightningModule):  # type: ignore[name-defined, misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = nn.Linear(2, 2), nn.Linear(2, 1)

        def training_step(self, batch: Tensor, number: int) -> Tensor:
            found: Tensor = self.head(self.backbone(batch)).square().mean()
            return found

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)

    class Finetuning(lightning.callbacks.BaseFinetuning):  # type: ignore[name-defined, misc, unused-ignore]
        def freeze_before_training(self, module: Any) -> None:
            self.freeze(module.backbone)

        def finetune_function(self, module: Any, epoch: int, optimizer: Any) -> None:
            if epoch == 1:
                self.unfreeze_and_add_param_group(module.backbone, optimizer, lr=0.1)

    def fit(epochs: int, checkpoint: str | None = None) -> Any:
        module, trainer = (
            Module(),
            lightning.Trainer(
                max_epochs=epochs,
                accelerator="cpu",
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                enable_checkpointing=False,
                default_root_dir=tmp_path,
                callbacks=[Finetuning()],
            ),
        )
        batches: Any = [torch.ones(2)] * 2
        trainer.fit(module, torch.utils.data.DataLoader(batches), ckpt_path=checkpoint)
        trainer.save_checkpoint(tmp_path / "saved.ckpt")
        return module

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        thawed = fit(2)
        assert thawed.backbone.weight.requires_grad
        resumed = fit(4, str(tmp_path / "saved.ckpt"))
    assert not resumed.backbone.weight.requires_grad
    assert bits(resumed.backbone.weight) == bits(thawed.backbone.weight)
    assert bits(resumed.head.weight) != bits(thawed.head.weight)


def test_peft_leaves_the_base_until_adapters_are_merged() -> None:
    """Training adapters keeps the bits of the base; merging and unmerging them does not.

    Row 64: https://huggingface.co/docs/peft/developer_guides/lora
    """
    peft = pytest.importorskip("peft", reason=INSTALL)
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    config = peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
    model = peft.get_peft_model(base, config)
    weight = model.base_model.model[0].base_layer.weight
    start = bits(weight)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        _step(model, optimizer, torch.randn(3, 4))
    assert bits(weight) == start
    model.merge_adapter()
    assert bits(weight) != start
    model.unmerge_adapter()
    assert bits(weight) != start  # by rounding
    assert torch.allclose(weight, torch.frombuffer(bytearray(start), dtype=weight.dtype).view(4, 4))


def _private(model: nn.Module, **options: Any) -> Any:
    """The optimizer that Opacus makes of SGD, for this model."""
    opacus = pytest.importorskip("opacus", reason=INSTALL)
    samples = torch.utils.data.TensorDataset(torch.randn(8, 4))
    batches: Any = torch.utils.data.DataLoader(samples, batch_size=4)
    _, optimizer, _ = opacus.PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, **options),
        data_loader=batches,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=False,
    )
    return optimizer


@pytest.mark.filterwarnings("ignore")
def test_opacus_cannot_train_what_thaws_later() -> None:
    """Opacus trains around frozen parameters, and raises once one of them is thawed.

    Its hooks compute per-sample gradients for what was trainable when the model was made private.

    Row 64: https://github.com/meta-pytorch/opacus/pull/729
    """
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    frozen = model[0].weight
    start = bits(frozen)
    optimizer = _private(model)
    _step(model, optimizer, torch.randn(4, 4))
    assert bits(frozen) == start
    frozen.requires_grad_(True)
    with pytest.raises(ValueError, match="Per sample gradient"):
        _step(model, optimizer, torch.randn(4, 4))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("set_to_none", [False, True])
def test_opacus_moves_what_froze_midway(set_to_none: bool) -> None:
    """The optimizer of Opacus clears gradients to zeros, so momentum and decay move what freezes.

    `zero_grad` has `set_to_none=False` there, and True in torch. With True, what is frozen stays.

    Row 64: no public report
    """
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = _private(model, weight_decay=0.1)
    _step(model, optimizer, torch.randn(4, 4))
    model[0].requires_grad_(False)
    start = bits(model[0].weight)
    optimizer.zero_grad(**({"set_to_none": True} if set_to_none else {}))
    model(torch.randn(4, 4)).square().mean().backward()
    optimizer.step()
    assert (bits(model[0].weight) == start) == set_to_none


def _learner(model: nn.Module, **options: Any) -> Any:
    """A `Learner` of fastai whose layer groups are the modules of the model."""
    pytest.importorskip("fastai.callback.progress", reason=INSTALL)  # It brings no_bar().
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner

    items = [(torch.randn(4), torch.zeros(2)) for _ in range(4)]
    return Learner(
        DataLoaders.from_dsets(items, items, bs=2, num_workers=0, device="cpu"),
        model,
        loss_func=nn.MSELoss(),
        splitter=lambda parts: [list(part.parameters()) for part in parts],
        **options,
    )


@pytest.mark.parametrize("by_torch", [False, True])
def test_fastai_decays_what_freeze_to_froze_between_two_fits(by_torch: bool) -> None:
    """An optimizer of fastai steps each parameter that has a gradient, and clears them to zeros.

    So weight decay, which is not zero by default, moves what `Learner.freeze_to` froze after a
    `fit`. An optimizer of torch in an `OptimWrapper` clears gradients to None, and leaves it.
    What is frozen before the first `fit` stays in both.

    Row 64: no public report
    """
    optimizers = pytest.importorskip("fastai.optimizer", reason=INSTALL)
    by_torchs = partial(optimizers.OptimWrapper, opt=torch.optim.AdamW)
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    learner = _learner(model, opt_func=by_torchs if by_torch else optimizers.Adam)

    def moves() -> bool:
        start = bits(model[0].weight)
        with learner.no_bar(), learner.no_logging():
            learner.fit(1, 0.1)
        return bits(model[0].weight) != start

    learner.freeze_to(1)
    assert not moves()
    learner.unfreeze()
    assert moves()
    learner.freeze_to(1)
    assert not model[0].weight.requires_grad
    assert moves() == (not by_torch)


def test_fastai_trains_norms_in_what_is_frozen() -> None:
    """`freeze_to` leaves norms trainable, as `Learner` has train_bn=True by default.

    Row 64: https://docs.fast.ai/learner.html
    """
    for train_bn in (True, False):
        backbone = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        _learner(nn.Sequential(backbone, nn.Linear(3, 2)), train_bn=train_bn).freeze()
        assert not backbone[0].weight.requires_grad
        assert backbone[1].weight.requires_grad == train_bn
