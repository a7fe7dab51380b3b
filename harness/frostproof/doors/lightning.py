"""`frostproof.LightningWatch`: a callback of Lightning that watches frozen parameters."""

from __future__ import annotations

from typing import Any

from frostproof.applications.watching.watch import watch
from frostproof.errors import UsageError

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError:
        raise UsageError(
            "LightningWatch needs Lightning: install lightning or pytorch-lightning"
        ) from None


class LightningWatch(Callback):
    """Watches from the start of `fit` to its end; takes the keywords of `frostproof.watch`."""

    watched: watch | None = None

    def __init__(self, **given: Any) -> None:
        self.given = given

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.watched = watch(pl_module, trainer.optimizers, **self.given)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.watched is not None:
            self.watched.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self.watched is not None:
            self.watched.stop()
