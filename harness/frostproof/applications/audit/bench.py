"""The code around the lines of an audit: it builds the model, freezes it, and can train it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from torch.optim import Optimizer

from frostproof.errors import FROM_USERS, UsageError, one_line
from frostproof.spec.architecture import expression
from frostproof.spec.user_model import UserModel
from frostproof.training.user_models import load_model, load_optimizer

BUILDER = "an optimizer class, or a function that takes the model and returns its optimizer"


FREEZING = (
    "def freeze():",
    "    for name, p in model.named_parameters(remove_duplicate=False):",
    "        given = [*patterns, *(f'{each}.*' for each in patterns)]",
    "        if any(fnmatchcase(name, each) for each in given):",
    "            p.requires_grad_(False)",
    "freeze()",
)


class Bench:
    """Builds the model anew for each statement, with its patterns frozen, and runs lines on it.

    With `already_frozen` it is frozen as it is built, and the patterns say what is meant to be.
    """

    def __init__(
        self,
        network: UserModel,
        patterns: Sequence[str],
        optimizer: str | None,
        already_frozen: bool = False,
    ) -> None:
        """`optimizer`: a class of torch.optim, or `module:name`. Raises UsageError.

        By default it is the one that the factory returns beside the model, or AdamW.
        """
        self.network, self.patterns, self.already_frozen = network, patterns, already_frozen
        model, *_ = network.source()
        imported, building = list[str](), list[str]()
        returns_two = optimizer is None and network.form == "pair"  # else it is not built for this
        own = load_model(network.factory).optimizer if returns_two else None
        if own is not None:
            model, self.optimizer = model.replace("_ =", "optimizer ="), type(own).__name__
        else:
            self.optimizer = optimizer or "AdamW"
            imported, built = _optimizer(self.optimizer)
            building = [f"optimizer = {built}"]
        self.is_users = own is not None or ":" in self.optimizer
        """Whether the optimizer is the user's own."""
        imports = [line for line in network.imports if "tree_map" not in line]
        mean = "from frostproof.spec.layers.modules import mean_square"
        one = network.one_output or network.step
        loss = network.loss(network.outputs("x"))
        self.setup = [
            *(["import copy"] if network.form == "module" else []),
            *([] if already_frozen else ["from fnmatch import fnmatchcase"]),
            "import torch",
            *imports,
            *imported,
            *([] if one else [mean]),
            *([] if already_frozen else [f"patterns = {[*patterns]!r}"]),
            "torch.manual_seed(0)",
            model,
            f"x = {network.batch(1)[0]}",
            *([] if already_frozen else FREEZING),
            *building,
            "def train():",
            "    optimizer.zero_grad()",
            f"    {loss}.backward()",
            "    optimizer.step()",
        ]
        """The lines that those of each statement follow."""
        self.call = (network.step and loss) or network.outputs("x")
        """The forward pass."""
        self.backward = f"{loss}.backward()"
        self.names = self.fresh()
        """A namespace to look for what may be worth a statement."""
        self._try_a_step()

    @property
    def model(self) -> Any:
        return self.names["model"]

    def fresh(self) -> dict[str, Any]:
        """The names that the setup binds. Raises UsageError if it cannot be run."""
        names: dict[str, Any] = {}
        try:
            exec("\n".join(self.setup), names)
        except UsageError:
            raise
        except FROM_USERS as error:
            text = one_line(f"{type(error).__name__}: {error}", 200)
            raise UsageError(
                f"the optimizer {self.optimizer!r} cannot be built for the model, {text}; give "
                f"--optimizer {BUILDER}"
            ) from None
        if not isinstance(names["optimizer"], Optimizer):
            kind = type(names["optimizer"]).__name__
            raise UsageError(f"{self.optimizer!r} returned {kind}: give --optimizer {BUILDER}")
        return names

    def _try_a_step(self) -> None:
        """Raises UsageError if the optimizer cannot step."""
        names = self.fresh()
        with suppress(Exception):  # nothing may be there to train
            exec(self.backward, names)
        try:
            names["optimizer"].step()
        except FROM_USERS as error:
            raise UsageError(
                f"a step of the optimizer {self.optimizer!r} raised "
                f"{one_line(f'{type(error).__name__}: {error}', 200)}; give another --optimizer"
            ) from None

    def shows(self, lines: Sequence[str]) -> bool:
        """Whether the last of these lines, an expression, is true after the others."""
        names = self.fresh()
        try:
            exec("\n".join(lines[:-1]), names)
            return bool(eval(lines[-1], names))
        except Exception:  # what cannot be tried is not stated
            return False


def _optimizer(target: str) -> tuple[list[str], str]:
    """The import, and the expression, of an optimizer of the model. Raises UsageError."""
    found = load_optimizer(target, BUILDER)
    module, colon, name = target.partition(":")
    if not colon:
        return [], f"torch.optim.{target}(model.parameters())"
    given = "model.parameters()" if isinstance(found, type) else "model"
    return [f"from {module} import {name} as make_optimizer"], f"make_optimizer({given})"


def code(name: str) -> str:
    """The expression for a parameter, a buffer or a module of the model."""
    return expression(name)
