"""Models with one mistake each, as people make them when they freeze."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """Takes (batch, 3). Its parts are `backbone` and `head`."""

    def __init__(self, *backbone: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = nn.Sequential(*(backbone or (nn.Linear(3, 3), nn.Tanh())))
        self.head: Any = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.backbone(x)))


def correct() -> nn.Module:
    return Net()


def norm_in_train_mode() -> nn.Module:
    return Net(nn.Linear(3, 3), nn.BatchNorm1d(3))


def norms_in_train_mode() -> nn.Module:
    return Net(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3))


class TiedHead(nn.Module):
    """Takes tokens, (batch, length)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.body, self.head = nn.Embedding(5, 3), nn.Linear(3, 3), nn.Linear(3, 5)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.body(self.embedding(tokens))))


def tokens() -> Tensor:
    return torch.randint(5, (2, 4))


def old_weight_norm() -> nn.Module:
    return Net(nn.Linear(3, 3), nn.utils.weight_norm(nn.Linear(3, 3)))


def new_weight_norm() -> nn.Module:
    return Net(nn.Linear(3, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))


class Adapted(nn.Linear):
    """A linear layer with a low-rank adapter, which eval() merges into the weight."""

    def __init__(self) -> None:
        super().__init__(3, 3)
        self.lora_a, self.lora_b = nn.Parameter(torch.ones(3, 1)), nn.Parameter(torch.ones(1, 3))
        self.merged = False

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if self.merged else out + x @ self.lora_a @ self.lora_b

    def train(self, mode: bool = True) -> Adapted:
        if hasattr(self, "merged") and self.merged == mode:
            update = (self.lora_a @ self.lora_b).T
            self.weight.data += -update if mode else update
            self.merged = not mode
        return super().train(mode)


def adapter_that_merges() -> nn.Module:
    return Net(Adapted())


class Merged(nn.Linear):
    """A linear layer whose adapter was merged into the weight, which is then used alone."""

    def __init__(self) -> None:
        super().__init__(3, 3)
        self.lora_a, self.lora_b = nn.Parameter(torch.ones(3, 1)), nn.Parameter(torch.ones(1, 3))
        self.weight.data += (self.lora_a @ self.lora_b).T


def adapter_merged() -> nn.Module:
    return Net(Merged())


def optimizer_before_the_head(model: Any) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters())
    model.head = nn.Linear(3, 2)
    return optimizer


def freezes_attributes() -> nn.Module:
    """Sets attributes of modules, which torch does not read, and forgets the norm's mode."""
    model = Net(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), nn.BatchNorm1d(3))
    for module in model.backbone.modules():
        module.requires_grad = False
    return model


def freezes_right() -> nn.Module:
    model = Net(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.backbone.requires_grad_(False).eval()
    return model


def freezes_half_of_weight_norm() -> nn.Module:
    """Freezes what it sees: the bias, and not what the weight is computed from."""
    model = new_weight_norm()
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith("head") or "parametrizations" in name)
    return model


def misspelt() -> nn.Module:
    model = Net()
    model.head.requires_grads = False
    return model


class Leaky(torch.optim.SGD):
    """Decays what has no gradient, too."""

    def step(self, closure: Any = None) -> Any:
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(0.9)
        return super().step(closure)


def leaky(model: nn.Module) -> torch.optim.Optimizer:
    return Leaky(model.parameters(), lr=0.1)


def no_optimizer(model: nn.Module) -> None: ...


def failing(model: nn.Module) -> None:
    raise ValueError("no\nrate")


def dropping() -> nn.Module:
    return Net(nn.Linear(3, 3), nn.Dropout(0.5))
