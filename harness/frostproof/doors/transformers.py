"""`frostproof.TrainerWatch`: a callback of transformers' Trainer that watches frozen parameters."""

from __future__ import annotations

from typing import Any

from frostproof.applications.watching.watch import watch
from frostproof.errors import UsageError

try:
    from transformers import TrainerCallback
except ImportError:
    raise UsageError("TrainerWatch needs transformers: install it with its Trainer") from None


class TrainerWatch(TrainerCallback):
    """Watches from the start of `train` to its end; takes the keywords of `frostproof.watch`."""

    watched: watch | None = None

    def __init__(self, **given: Any) -> None:
        self.given = given

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: Any, optimizer: Any, **_: Any
    ) -> None:
        if self.watched is not None:  # of a training that raised, which nobody tells a callback
            self.watched.stop()
        # Accelerate's optimizer wraps the one that steps.
        self.watched = watch(model, getattr(optimizer, "optimizer", optimizer), **self.given)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.watched is not None:
            self.watched.close()
