"""Known failures of torch's own optimizers, and where they are not exact.

Each entry has fields of a Subject, for the qualified name of a class and a variant (None for all).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_KNOWN = Path(__file__).with_name("known_cases")
"""Case files of failures that a search rarely finds."""

_LBFGS = {
    "gradless-step-is-noop": (
        "a None gradient is zeros in the flat vector, and the direction from earlier steps still "
        "moves the parameter (torch 2.13)"
    ),
    "freeze-midway-holds": (
        "a parameter frozen midway is zeros in the flat vector, and the direction from earlier "
        "steps still moves it (torch 2.13)"
    ),
    "no-state-for-frozen": (
        "the state of the whole optimizer belongs to its first parameter, which may be frozen "
        "(torch 2.13)"
    ),
}

KNOWN_FAILURES: dict[tuple[str, str | None], dict[str, Any]] = {
    ("torch.optim.adagrad.Adagrad", None): {
        "expected_failures": {
            "no-state-for-frozen": (
                "the constructor allocates `sum` and `step` for every parameter, "
                "frozen ones too (torch 2.13)"
            ),
        },
    },
    ("torch.optim.lbfgs.LBFGS", None): {
        "rounding": (
            "in A, the flat vector has zeros for frozen parameters, "
            "so that vectorised sums are split at other elements"
        ),
        "dtypes": ("float64",),
        "per_parameter": False,
        "expected_failures": _LBFGS,
    },
    ("torch.optim.lbfgs.LBFGS", "default"): {
        "expected_failures": {
            **_LBFGS,
            "frozen-weights-unchanged": (
                "without a line search, the direction may overflow, for example after a step with "
                "clipped gradients; the zeros of a frozen parameter in the flat vector then become "
                "NaN, and so does the parameter (torch 2.13)"
            ),
        },
        "known_cases": {
            "frozen-weights-unchanged": _KNOWN / "torch.optim_LBFGS-frozen-weights-unchanged.json"
        },
    },
    ("torch.optim.lbfgs.LBFGS", "strong_wolfe"): {
        "expected_failures": {
            **_LBFGS,
            "ranks-agree": (
                "in ddp, each rank searches along the line with the loss of its own share of the "
                "batch, and takes a step of its own length (torch 2.13)"
            ),
        },
    },
    ("torch.optim.sgd.SGD", "foreach"): {
        "rounding": (
            "while one parameter of a group has no momentum buffer yet, the others are updated one "
            "by one, which rounds differently in bfloat16 (torch 2.13)"
        ),
    },
    ("torch.optim.sgd.SGD", "fused"): {
        "expected_failures": {
            "gradless-step-is-noop": (
                "with momentum, the kernel raises TypeError if one parameter has a momentum buffer "
                "and another, which has not had a gradient, has none (torch 2.13)"
            ),
            "repeats-itself": (
                "with momentum, a first step that a GradScaler skips allocates the momentum "
                "buffers without writing them, and the next step reads them; in bfloat16, the "
                "momentum of larger tensors also takes in memory outside them (torch 2.13)"
            ),
            "thaw-resumes": (
                "with momentum, thawing a parameter that never had a gradient raises TypeError, "
                "because its momentum buffer is None and the others have one (torch 2.13)"
            ),
        },
    },
}

AUTOGRAD_KNOWN_FAILURES: dict[str, Any] = {
    "expected_failures": {
        "repeats-itself": (
            "in bfloat16, for an input of 1 by 1 and a stride, oneDNN's kernel for the weight "
            "gradient of a convolution does not write the elements under the padding, which keep "
            "the earlier content of the memory (torch 2.13, x86 with AVX512-BF16)"
        ),
    },
    "known_cases": {"repeats-itself": _KNOWN / "torch.autograd-repeats-itself.json"},
}
"""The same for autograd on the CPU, on machines whose kernels show it."""
