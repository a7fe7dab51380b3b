"""What `frostproof.watch` adds to a step of training.

Usage: python benchmarks/watching.py [DEVICE]

Each model has about 10 million parameters, of which all but the head are frozen. The ratio is that
of the medians of a look and of a step without one, which take turns, on one torch thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import frostproof

STEPS = 15


def convolutions() -> nn.Module:
    """Stages of convolutions as wide as those of a ResNet-18; takes (batch, 3, side, side)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.MaxPool2d(2)]
    width = 64
    for wider in (64, 128, 256, 512):
        for count in range(4):
            stride = 2 if wider > width else 1
            layers += [nn.Conv2d(width, wider, 3, stride, 1), nn.BatchNorm2d(wider), nn.ReLU()]
            width = wider if count == 0 else width
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Sequential(*layers), pool, nn.Linear(512, 10))


def transformer() -> nn.Module:
    """Takes (batch, length, 512)."""
    layer = nn.TransformerEncoderLayer(512, 8, 2048, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 3), nn.Flatten(1), nn.LazyLinear(10))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (convolutions, (32, 3, 96, 96)),
    "transformer": (transformer, (16, 64, 512)),
}


def measure(name: str, device: str) -> None:
    build, shape = MODELS[name]
    torch.manual_seed(0)
    x = torch.randn(shape, device=device)
    model: Any = build().to(device)
    model(x)
    model[0].requires_grad_(False)
    model[0].eval()
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> float:
        started = time.perf_counter()
        optimizer.zero_grad()
        outputs: Tensor = model(x)
        outputs.square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if device != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter() - started

    looks, steps = [], []
    step()
    with frostproof.watch(model, optimizer, every=10 * STEPS) as watched:  # looks when it is asked
        for _ in range(STEPS):
            steps.append(step())
            started = time.perf_counter()
            watched.check()
            looks.append(time.perf_counter() - started)
    look, whole = (statistics.median(each) * 1000 for each in (looks, steps))
    count = sum(p.numel() for p in model.parameters())
    size = f"{count / 1e6:.1f} M parameters"
    print(f"{name}: {size}, {look:.2f} ms / {whole:.1f} ms = {look / whole:.3f}")


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    torch.set_num_threads(1)
    for name in MODELS:
        measure(name, device)


if __name__ == "__main__":
    main()
