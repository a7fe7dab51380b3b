"""Settings, strategies, networks and optimizers that the tests of facts share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

from frostproof.optimizers.torch_version import torch_is
from frostproof.training.bits import bits, bits_of
from frostproof.training.observation import Bits

FACT = settings(max_examples=20, deadline=None, database=None, derandomize=True)
BRIEF = settings(FACT, max_examples=5)
"""For a fact that is asserted of each member of a long list in turn."""

SEEDS = st.integers(0, 1 << 16)
WIDTHS = st.integers(1, 5)
STEPS = st.integers(1, 4)
DTYPES = st.sampled_from((torch.float32, torch.float64))
Mask = Sequence[bool]
"""For each parameter of `network`, in order, whether it is frozen."""
MASKS: st.SearchStrategy[Mask] = st.integers(1, 62).map(
    lambda number: [bool(number >> place & 1) for place in range(6)]
)
"""Every mask but none and all."""


@dataclass(frozen=True)
class Optimizing:
    """An optimizer, and what moves a parameter whose gradient is zero."""

    kind: type[Optimizer]
    options: dict[str, Any] = field(default_factory=dict)
    decays: bool = False
    """Whether weight decay moves it."""
    remembers: bool = False
    """Whether memory of earlier gradients moves it."""

    def __call__(self, parameters: Iterable[Tensor], lr: float = 0.1) -> Optimizer:
        kind: Any = self.kind
        optimizer: Optimizer = kind(parameters, lr=lr, **self.options)
        return optimizer

    def __str__(self) -> str:
        return " ".join(
            [self.kind.__name__, *(f"{name}={value}" for name, value in self.options.items())]
        )


_optim, _decay = torch.optim, {"weight_decay": 0.1}
OPTIMIZING = (
    Optimizing(_optim.SGD),
    Optimizing(_optim.SGD, _decay, decays=True),
    Optimizing(_optim.SGD, {"momentum": 0.9}, remembers=True),
    Optimizing(_optim.Adam, remembers=True),
    Optimizing(_optim.Adam, _decay, decays=True, remembers=True),
    Optimizing(_optim.Adam, {"betas": (0.0, 0.999)}),
    Optimizing(_optim.AdamW, decays=True, remembers=True),
    Optimizing(_optim.AdamW, {"weight_decay": 0.0}, remembers=True),
    Optimizing(_optim.NAdam, remembers=True),
    Optimizing(_optim.RAdam, remembers=True),
    Optimizing(_optim.Adamax, remembers=True),
    Optimizing(_optim.RMSprop),
    Optimizing(_optim.RMSprop, {"momentum": 0.9}, remembers=True),
    Optimizing(_optim.RMSprop, _decay, decays=True),
    Optimizing(_optim.Adagrad),
    Optimizing(_optim.Adagrad, _decay, decays=True),
    Optimizing(_optim.Adadelta),
    Optimizing(_optim.Adadelta, _decay, decays=True),
    Optimizing(_optim.ASGD, decays=True),  # its `lambd` is a decay
    Optimizing(_optim.ASGD, {"lambd": 0.0}),
    Optimizing(_optim.Rprop),
    Optimizing(_optim.Adafactor),
    Optimizing(_optim.Adafactor, _decay, decays=True),
    *(
        (
            Optimizing(_optim.Muon, decays=True, remembers=True),
            Optimizing(_optim.Muon, {"weight_decay": 0.0}, remembers=True),
        )
        if torch_is(">=2.9")
        else ()
    ),
)
"""All of torch.optim but LBFGS (it needs a closure) and SparseAdam (it refuses dense gradients)."""

OPTIMIZER_NAMES = [
    name
    for name in _optim.__all__
    if isinstance(found := getattr(_optim, name), type) and found is not Optimizer
]
"""Every optimizer class of torch.optim."""


def parameter(seed: int, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    """A matrix, because Muon takes no other, without zeros, on which a decay would not show."""
    return nn.Parameter(
        torch.rand(2, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype) + 0.1
    )


def network(seed: int, width: int = 3, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Three linear layers, six parameters."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)
    ).to(dtype)  # fmt: skip


def batch(seed: int, dtype: torch.dtype = torch.float32, rows: int = 4) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def twins(
    seed: int, mask: Mask, dtype: torch.dtype = torch.float32
) -> tuple[nn.Sequential, nn.Sequential]:
    """Return a network frozen as in A, by `requires_grad`, and the same untouched, as in B."""
    a, b = network(seed, dtype=dtype), network(seed, dtype=dtype)
    for each in chosen(a, mask, frozen=True):
        each.requires_grad_(False)
    return a, b


def chosen(model: nn.Module, mask: Mask, *, frozen: bool) -> list[nn.Parameter]:
    """The parameters that `mask` freezes, or the others."""
    return [
        each
        for each, is_frozen in zip(model.parameters(), mask, strict=True)
        if is_frozen == frozen
    ]


def loss_of(model: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    return model(inputs).square().mean()


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def train(model: nn.Module, optimizer: Optimizer, inputs: Tensor, steps: int = 1) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        backward(loss_of(model, inputs))
        optimizer.step()


def weights(model: nn.Module) -> tuple[Bits, ...]:
    return bits_of(model.parameters())


def everything(model: nn.Module) -> dict[str, Bits]:
    """The bits of all parameters and buffers."""
    return {name: bits(value) for name, value in model.state_dict().items()}


def state_bits(optimizer: Optimizer) -> tuple[Bits, ...]:
    return bits_of(
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )
