"""What freezing saves in a row of equal linear layers, counted.

Usage: python benchmarks/costs.py [LAYERS]. It prints a table in Markdown, in units of one layer's
matrix product, activation and weight, and takes seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection

import torch
from torch import nn

from frostproof.applications.costs.counting import StepCosts, count_costs
from frostproof.applications.costs.task import CostTask
from frostproof.applications.costs.ways import A, B, ModelWay

ROWS, WIDTH = 8, 16
PRODUCT, ACTIVATION, WEIGHT = 2 * ROWS * WIDTH**2, 4 * ROWS * WIDTH, 4 * WIDTH**2
BETWEEN: tuple[Callable[[], nn.Module], ...] = (nn.ReLU, nn.GELU, nn.Identity)


def main(layers: int) -> None:
    choices: dict[str, Collection[int]] = {
        "last only": (layers - 1,),
        f"layer {layers // 2} only": (layers // 2,),
        "first only": (0,),
        "even layers": range(0, layers, 2),
        "all but the first": range(1, layers),
        "all": range(layers),
    }
    print(
        "| trained | backward A | B | B : A | saved A (ReLU / GELU / none) | B | weights A | B "
        "| gradients A | B |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, trainable in choices.items():
        a, b = (
            [_counted(layers, trainable, between, way) for between in BETWEEN] for way in (A, B)
        )
        products = [_in(PRODUCT, each[0].backward_flops) for each in (a, b)]
        cells = [
            *map(str, products),
            f"{products[1] / products[0]:.2f}",
            *(
                " / ".join(
                    str(_in(ACTIVATION, each.saved_bytes + each.input_bytes)) for each in way
                )
                for way in (a, b)
            ),
            *(str(_in(WEIGHT, each[0].weight_bytes)) for each in (a, b)),
            *(str(_in(WEIGHT, each[0].gradient_bytes)) for each in (a, b)),
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def _counted(
    layers: int, trainable: Collection[int], between: Callable[[], nn.Module], way: ModelWay
) -> StepCosts:
    stack = [
        part for _ in range(layers) for part in (nn.Linear(WIDTH, WIDTH, bias=False), between())
    ][:-1]
    frozen = frozenset(f"{2 * layer}.weight" for layer in range(layers) if layer not in trainable)
    return count_costs(CostTask(nn.Sequential(*stack), (torch.randn(ROWS, WIDTH),), frozen), way)


def _in(unit: int, number: int) -> int:
    """The number in units. Raises ValueError if it is not a multiple of the unit."""
    units, rest = divmod(number, unit)
    if rest:
        raise ValueError(f"{number} is not a multiple of {unit}")
    return units


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
