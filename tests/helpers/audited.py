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


def frozen_after_a_step() -> nn.Module:
    """A whole model that has trained a step, and whose backbone is frozen with its gradients."""
    model = Net()
    model(torch.ones(4, 3)).sum().backward()
    model.backbone.requires_grad_(False)
    return model


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


def freezes_what_leaks() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = freezes_right()
    return model, leaky(model)


def no_optimizer(model: nn.Module) -> None: ...


def leaving(model: nn.Module) -> None:
    raise SystemExit("nothing to do")


def failing(model: nn.Module) -> None:
    raise ValueError("no\nrate")


def dropping() -> nn.Module:
    return Net(nn.Linear(3, 3), nn.Dropout(0.5))


class TiedTwice(TiedHead):
    """Its embedding is two heads, too."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 5)
        self.last.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        below = self.body(self.embedding(tokens))
        return cast(Tensor, self.head(below) + self.last(below))


def trains_a_tied_head() -> nn.Module:
    """Freezes the embedding, and then thaws the head, which is the same tensor."""
    model = TiedHead()
    model.embedding.requires_grad_(False)
    model.head.requires_grad_(True)
    return model


def norm_without_parameters() -> nn.Module:
    return Net(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False))


def deep() -> nn.Module:
    return Net(*(nn.Linear(3, 3) for _ in range(6)))


class ByZero(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def scaled_by_zero() -> nn.Module:
    """The layer below a scale of zero has gradients of zero, and no decay would move a zero."""
    model = Net(nn.Linear(3, 3, bias=False), ByZero())
    nn.init.zeros_(model.backbone[0].weight)
    return model


class AddsNoise(nn.Sequential):
    """Draws itself, too."""

    def forward(self, x: Tensor) -> Tensor:
        out = cast(Tensor, super().forward(x))  # type: ignore[no-untyped-call]
        return out + torch.randn_like(out)


class DrawsInHead(Net):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x))


def draws_beside_a_child() -> nn.Module:
    shared = nn.Sequential(nn.Tanh())
    return DrawsInHead(AddsNoise(nn.Linear(3, 3), nn.Dropout(0.5)), shared, shared)


class DropsLayers(Net):
    """Leaves out each layer at random, in train mode."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.backbone:
            if torch.rand(()) < 0.6:
                x = layer(x)
        return cast(Tensor, self.head(x))


def drops_layers() -> nn.Module:
    return DropsLayers(*(nn.Linear(3, 3) for _ in range(3)))


def has_a_mask_token() -> nn.Module:
    model = Net()
    model.mask_token = nn.Parameter(torch.ones(3))
    return model


def in_eval_mode() -> nn.Module:
    return Net(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).eval()


def nearly_nothing_frozen() -> nn.Module:
    model = deep()
    cast(Net, model).backbone[0].bias.requires_grad_(False)
    return model


def all_frozen() -> nn.Module:
    return Net().requires_grad_(False)
