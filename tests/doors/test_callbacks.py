"""Callbacks watch frozen parameters in Lightning and in transformers' Trainer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import frostproof
from frostproof.errors import UsageError, ViolationError

INSTALL = "pip install 'frostproof[ways]'"


class Decaying(torch.optim.SGD):
    """Decays what has no gradient, too."""

    def step(self, closure: Any = None) -> Any:
        found = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(0.9)
        return found


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    return model


OPTIMIZERS = pytest.mark.parametrize("optimizer", [torch.optim.SGD, Decaying])


@OPTIMIZERS
def test_lightning_is_watched(optimizer: Any, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch", reason=INSTALL)

    class Module(lightning.LightningModule):  # type: ignore[name-defined, misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

        def training_step(self, batch: Tensor, number: int) -> Tensor:
            found: Tensor = self.model(batch).square().mean()
            return found

        def configure_optimizers(self) -> Any:
            return optimizer(self.parameters(), lr=0.1)

    callback = frostproof.LightningWatch(frozen=["model.0"])
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[callback],
    )
    batches: Any = [torch.ones(2)] * 3
    data: Any = torch.utils.data.DataLoader(batches)
    if optimizer is Decaying:
        with pytest.raises(ViolationError, match=r"at step 1: step\(\) moved .* model.0.weight"):
            trainer.fit(Module(), data)
    else:
        trainer.fit(Module(), data)
        assert callback.watched.steps == 6


@OPTIMIZERS
def test_the_trainer_of_transformers_is_watched(optimizer: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason=INSTALL)
    pytest.importorskip("accelerate", reason=INSTALL)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"loss": self.model(x).square().mean()}

    model = Model()
    callback = frostproof.TrainerWatch(frozen=["model.0"])
    trainer = transformers.Trainer(
        model,
        transformers.TrainingArguments(
            output_dir=str(tmp_path),
            report_to=[],
            max_steps=4,
            use_cpu=True,
            save_strategy="no",
            remove_unused_columns=False,
            disable_tqdm=True,
        ),
        train_dataset=[{"x": torch.ones(2)}] * 8,
        callbacks=[callback],
        optimizers=(optimizer(model.parameters(), lr=0.1), None),
    )
    if optimizer is Decaying:
        with pytest.raises(ViolationError, match=r"at step 1: step\(\) moved .* model.0.weight"):
            trainer.train()
    else:
        trainer.train()
        assert callback.watched.steps == 4


@pytest.mark.parametrize(
    ("library", "name"), [("lightning", "LightningWatch"), ("transformers", "TrainerWatch")]
)
def test_a_missing_library_is_told_in_one_line(
    library: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"frostproof.doors.{library}", raising=False)
    for missing in ("lightning", "lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=f"^{name} needs .*: install "):
        getattr(frostproof, name)
