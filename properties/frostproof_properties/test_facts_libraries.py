"""Facts of libraries that freeze for people. A library that is not installed is skipped by name."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
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


def test_opacus_cannot_train_what_thaws_later() -> None:
    """Opacus trains around frozen parameters, and raises once one of them is thawed.

    Its hooks compute per-sample gradients for what was trainable when the model was made private.

    Row 64: https://github.com/meta-pytorch/opacus/pull/729
    """
    opacus = pytest.importorskip("opacus", reason=INSTALL)
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    frozen = model[0].weight
    start = bits(frozen)
    batches: Any = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.randn(8, 4)), batch_size=4
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, optimizer, _ = opacus.PrivacyEngine().make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            data_loader=batches,
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            poisson_sampling=False,
        )
    _step(model, optimizer, torch.randn(4, 4))
    assert bits(frozen) == start
    frozen.requires_grad_(True)
    with pytest.raises(ValueError, match="Per sample gradient"):
        _step(model, optimizer, torch.randn(4, 4))
