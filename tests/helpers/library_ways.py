"""Ways to freeze of libraries, as `--way` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

Names = Sequence[str]


def modules_of(model: nn.Module, names: Names) -> list[nn.Module]:
    """The modules that have these parameters, in the order of the names."""
    return [model.get_submodule(path) for path in paths_of(names)]


def paths_of(names: Names) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] for name in names))


class Lightning:
    """`BaseFinetuning` of Lightning, with frozen norms frozen too (train_bn=False)."""

    owned = "trainable"
    whole_modules = True
    train_bn = False

    def freeze(self, model: nn.Module, names: Names) -> None:
        from lightning.pytorch.callbacks import BaseFinetuning

        BaseFinetuning.freeze(modules_of(model, names), train_bn=self.train_bn)

    def thaw(self, model: nn.Module, names: Names, optimizer: Any) -> None:
        from lightning.pytorch.callbacks import BaseFinetuning

        modules = modules_of(model, names)
        if optimizer is None:
            BaseFinetuning.make_trainable(modules)
        else:
            rate = optimizer.param_groups[0]["lr"]
            BaseFinetuning.unfreeze_and_add_param_group(modules, optimizer, lr=rate)


class LightningTrainBN(Lightning):
    """The same, with its default: norms train although they are frozen (train_bn=True)."""

    train_bn = True


class Timm:
    """`freeze` and `unfreeze` of timm, which put another module in the place of BatchNorm2d."""

    owned = "trainable"
    whole_modules = True
    running_stats = True

    def freeze(self, model: nn.Module, names: Names) -> None:
        from timm.utils import freeze

        freeze(model, paths_of(names), include_bn_running_stats=self.running_stats)

    def thaw(self, model: nn.Module, names: Names) -> None:
        from timm.utils import unfreeze

        unfreeze(model, paths_of(names), include_bn_running_stats=self.running_stats)


class TimmParameters(Timm):
    """The same with include_bn_running_stats=False, for parameters alone."""

    owned = "all"
    running_stats = False


class TransformersStyle:
    """`requires_grad = False` on each parameter of a backbone, as transformers' documents do it."""

    def freeze(self, model: nn.Module, names: Names) -> None:
        for name in names:
            model.get_parameter(name).requires_grad = False

    def thaw(self, model: nn.Module, names: Names) -> None:
        for name in names:
            model.get_parameter(name).requires_grad = True


class Fastai:
    """`freeze_to` of fastai's optimizer, over two layer groups: what is frozen, and the rest."""

    def freeze(self, model: nn.Module, names: Names) -> None:
        self._groups(model, {*frozen_of(model), *names}).freeze_to(1)

    def thaw(self, model: nn.Module, names: Names) -> None:
        self._groups(model, frozen_of(model) - set(names)).freeze_to(1)

    def _groups(self, model: nn.Module, frozen: set[str]) -> Any:
        from fastai.optimizer import SGD

        parts: tuple[list[nn.Parameter], ...] = ([], [])
        for name, parameter in model.named_parameters():
            parts[name not in frozen].append(parameter)
        return SGD(parts, lr=0.0)


def frozen_of(model: nn.Module) -> set[str]:
    return {name for name, each in model.named_parameters() if not each.requires_grad}


WAYS = ("Lightning", "LightningTrainBN", "Timm", "TimmParameters", "TransformersStyle", "Fastai")
