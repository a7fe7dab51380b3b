"""What the models of `tests.helpers.models` cost, worked out layer by layer without torch.

A layer's product has 2 FLOPs for each multiplication. Backward takes as many again for the
gradient of its weight, if the weight trains, and for that of its input, if an earlier layer trains.
What is saved is counted in numbers of 4 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.helpers.models import BATCH, CHANNELS, CLASSES, HEADS, HIDDEN, INNER, LENGTH, SIDE, WIDTH

Trains = Callable[[str], bool]
"""Whether a parameter trains, by its name."""


class Bill(NamedTuple):
    forward: int
    backward: int
    saved: int
    """Bytes of activations, without the batch."""


class Ledger:
    """Adds up the costs of layers. `needs`: whether the activations so far require grad."""

    def __init__(self, trains: Trains) -> None:
        self.trains, self.needs = trains, False
        self.forward = self.backward = 0
        self.saved: dict[str, int] = {}

    def product(self, name: str, flops: int) -> None:
        """A layer with a weight."""
        weight = self.trains(f"{name}weight")
        self.forward += flops
        self.backward += flops * (weight + self.needs)
        self.needs = self.needs or weight or self.trains(f"{name}bias")

    def bill(self) -> Bill:
        return Bill(self.forward, self.backward, 4 * sum(self.saved.values()))


def resnet(trains: Trains) -> Bill:
    """The bill of the ResNet.

    A convolution keeps its input if it takes part in backward at all. A norm keeps its input, and a
    mean and a deviation for each channel. A ReLU keeps its output, which is kept once for the next
    convolution too.
    """
    ledger = Ledger(lambda name: not name.endswith(("conv1.bias", "conv2.bias")) and trains(name))
    area, image = BATCH * SIDE * SIDE, BATCH * SIDE * SIDE * CHANNELS
    ledger.product("stem.", 2 * area * CHANNELS * 3 * 9)
    before = "stem"
    for block in ("layer1", "layer2"):
        shortcut = ledger.needs
        for one in ("1", "2"):
            ledger.product(f"{block}.conv{one}.", 2 * area * CHANNELS * CHANNELS * 9)
            if ledger.needs:
                ledger.saved[before] = image
            ledger.needs = ledger.needs or ledger.trains(f"{block}.bn{one}.weight")
            if ledger.needs:
                ledger.saved[f"{block}.conv{one}"] = image
                ledger.saved[f"{block}.bn{one}"] = 2 * CHANNELS
            ledger.needs = ledger.needs or (shortcut and one == "2")
            before = f"{block}.relu{one}"
            if ledger.needs:
                ledger.saved[before] = image
    ledger.product("head.", 2 * BATCH * CHANNELS * CLASSES)
    if trains("head.weight"):
        ledger.saved["pooled"] = BATCH * CHANNELS
    return ledger.bill()


def encoder(trains: Trains) -> Bill:
    """The bill of the transformer encoder.

    Fused attention keeps queries, keys and values in one tensor, a number for each head and place,
    and its output, which is the input of the next projection. Its backward takes five products, one
    of them to compute the scores again. Its input is copied to bring the time to the front, and the
    copy is kept where the weight trains.
    """
    ledger = Ledger(trains)
    rows = BATCH * LENGTH
    scores = 2 * BATCH * LENGTH * LENGTH * WIDTH
    for number in (0, 1):
        at = f"encoder.layers.{number}."
        if trains(f"{at}self_attn.in_proj_weight"):
            ledger.saved[f"{at}in"] = rows * WIDTH
        shortcut = ledger.needs
        ledger.product(f"{at}self_attn.in_proj_", 2 * rows * WIDTH * 3 * WIDTH)
        ledger.forward += 2 * scores
        ledger.backward += 5 * scores * ledger.needs
        if ledger.needs:
            ledger.saved[f"{at}attention"] = rows * 3 * WIDTH + rows * HEADS
        if ledger.needs or trains(f"{at}self_attn.out_proj.weight"):
            ledger.saved[f"{at}attended"] = rows * WIDTH
        ledger.product(f"{at}self_attn.out_proj.", 2 * rows * WIDTH * WIDTH)
        ledger.needs = ledger.needs or shortcut
        _norm(ledger, f"{at}norm1.", rows)
        shortcut = ledger.needs
        if trains(f"{at}linear1.weight"):
            ledger.saved[f"{at}normed"] = rows * WIDTH
        ledger.product(f"{at}linear1.", 2 * rows * WIDTH * INNER)
        if ledger.needs:
            ledger.saved[f"{at}relu"] = rows * INNER
        if trains(f"{at}linear2.weight"):
            ledger.saved[f"{at}relu"] = rows * INNER
        ledger.product(f"{at}linear2.", 2 * rows * WIDTH * INNER)
        ledger.needs = ledger.needs or shortcut
        _norm(ledger, f"{at}norm2.", rows)
    ledger.product("head.", 2 * BATCH * WIDTH * CLASSES)
    if trains("head.weight"):
        ledger.saved["mean"] = BATCH * WIDTH
    return ledger.bill()


def _norm(ledger: Ledger, name: str, rows: int) -> None:
    """Keeps its input, and a mean and a deviation for each row."""
    ledger.needs = ledger.needs or ledger.trains(f"{name}weight") or ledger.trains(f"{name}bias")
    if ledger.needs:
        ledger.saved[name] = rows * WIDTH + 2 * rows


def classifier(trains: Trains) -> Bill:
    """The bill of the LSTM classifier.

    Each step keeps the four gates, the cell before it, and the tanh of the cell after it; where the
    recurrent weight trains, also the state before it. The first state is zero, and needs no
    gradient. The head takes the last of the stacked states, and keeps all.
    """
    ledger = Ledger(trains)
    gates, steps = 4 * HIDDEN, LENGTH * BATCH
    embedded = trains("embedding.weight")
    ih, hh = trains("lstm.weight_ih_l0"), trains("lstm.weight_hh_l0")
    needs = embedded or ih or hh or trains("lstm.bias_ih_l0") or trains("lstm.bias_hh_l0")
    ledger.forward += 2 * steps * (WIDTH + HIDDEN) * gates
    ledger.backward += 2 * steps * WIDTH * gates * (embedded + ih)
    ledger.backward += (
        2 * steps * HIDDEN * gates * hh + 2 * (steps - BATCH) * HIDDEN * gates * needs
    )
    ledger.saved["embedded"] = steps * WIDTH * ih
    ledger.saved["cells"] = steps * (gates + 2 * HIDDEN) * needs
    ledger.saved["states"] = steps * HIDDEN * hh
    ledger.needs = needs
    ledger.product("head.", 2 * BATCH * HIDDEN * CLASSES)
    ledger.saved["stacked"] = steps * HIDDEN * trains("head.weight")
    return ledger.bill()
