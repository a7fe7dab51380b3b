"""Strategies for the examples of claims: plain values, the simplest first."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import strategies as st

from frostproof.optimizers.torch_version import torch_is

_DECAY = {"weight_decay": 0.1}
OPTIMIZERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", _DECAY),
    ("Adam", {}),
    ("Adam", _DECAY),
    ("AdamW", {}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("Adamax", {}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("ASGD", {}),
    ("Rprop", {}),
    ("Adafactor", {}),
    *([("Muon", {})] if torch_is(">=2.9") else []),
)
"""All of torch.optim except LBFGS, which rounds differently when it has more parameters, and
SparseAdam, which refuses dense gradients."""

OPTIMIZING = st.sampled_from(OPTIMIZERS)
_SIZED = [each for each in OPTIMIZERS if each[0] not in ("Rprop", "Adafactor", "Muon")]
SIZED = st.sampled_from(_SIZED)
"""Optimizers whose first steps depend on the size of each gradient. Those of Rprop depend only on
signs, and those of Adafactor and Muon only on ratios."""
SIGN_OR_SIZE = st.sampled_from([*_SIZED, ("Rprop", {})])
"""Optimizers that always react when all gradients are scaled by one factor, and Rprop, which never
does."""

SEEDS = st.integers(0, 1 << 16)
STEP_COUNTS = st.integers(1, 3)

_MASKS = [layers for depth in (2, 3, 4) for layers in product(("frozen", "trained"), repeat=depth)]
ANY_LAYERS = st.sampled_from(_MASKS)
"""Two to four layers, each of them frozen or trained."""
_MIXED = [layers for layers in _MASKS if len(set(layers)) == 2]
LAYERS = st.sampled_from(_MIXED)
"""At least one layer of each kind."""
LAST = st.sampled_from([layers for layers in _MIXED if "trained" not in layers[:-1]])
"""All layers but the last are frozen."""
FOLLOWED = st.sampled_from(
    [layers for layers in _MIXED if "frozen" in layers[layers.index("trained") :]]
)
"""A frozen layer follows a trained one."""

BETWEEN = st.sampled_from(("Tanh", "ReLU", "Sigmoid", "GELU", "Dropout", "BatchNorm1d"))
CLIP_EPSILON = 1e-6
"""torch.nn.utils.clip_grad_norm_ divides the limit by the norm plus this."""
_LIMITS = (1.0, 0.3, 0.1, 0.03, 0.01)
LIMITS = st.sampled_from(_LIMITS)
"""Limits for clipping: the first is rarely exceeded, the last nearly always."""
UNLIMITED_OR = st.sampled_from((None, *_LIMITS))
