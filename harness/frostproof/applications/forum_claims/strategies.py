"""What examples are drawn from: plain values, the simplest first."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import strategies as st

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
    ("Muon", {}),
)
"""All of torch.optim but LBFGS, which rounds otherwise where it has more parameters, and SparseAdam, which refuses dense gradients."""

OPTIMIZING = st.sampled_from(OPTIMIZERS)
_SIZED = [each for each in OPTIMIZERS if each[0] not in ("Rprop", "Adafactor", "Muon")]
SIZED = st.sampled_from(_SIZED)
"""Those whose first steps hang on the size of each gradient, and not only on its sign (Rprop) or on their ratios."""
CLIPPED = st.sampled_from([*_SIZED, ("Rprop", {})])
"""Those that notice for certain, or never, that all gradients are scaled alike."""

SEEDS = st.integers(0, 1 << 16)
STEP_COUNTS = st.integers(1, 3)

_MASKS = [layers for depth in (2, 3, 4) for layers in product(("frozen", "trained"), repeat=depth)]
ANY_LAYERS = st.sampled_from(_MASKS)
"""Two to four layers, each of them frozen or not."""
_MIXED = [layers for layers in _MASKS if len(set(layers)) == 2]
LAYERS = st.sampled_from(_MIXED)
"""Some frozen and some not."""
LAST = st.sampled_from([layers for layers in _MIXED if "trained" not in layers[:-1]])
"""All but the last frozen."""
FOLLOWED = st.sampled_from(
    [layers for layers in _MIXED if "frozen" in layers[layers.index("trained") :]]
)
"""A frozen layer follows a trained one."""

BETWEEN = st.sampled_from(("Tanh", "ReLU", "Sigmoid", "GELU", "Dropout", "BatchNorm1d"))
ADDED = 1e-6
"""What torch.nn.utils.clip_grad_norm_ adds to a norm before it divides the limit by it."""
_LIMITS = (1.0, 0.3, 0.1, 0.03, 0.01)
LIMITS = st.sampled_from(_LIMITS)
"""Limits for clipping: the first rarely bites, the last nearly always."""
UNLIMITED_OR = st.sampled_from((None, *_LIMITS))
