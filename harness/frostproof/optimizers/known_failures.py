"""What is on record of torch's own optimizers: violations that stand as expected failures, and exactness rules.

Each entry holds fields of a Subject, under the qualified name of the class and the variant (None for all of them), in the
form that users give them too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_KNOWN = Path(__file__).with_name("known_cases")
"""Case files of what a search finds too rarely."""

_LBFGS = {
    "gradless-step-is-noop": (
        "a None gradient counts as zeros in the flat vector, and the direction from earlier steps still moves the parameter (torch 2.13)"
    ),
    "freeze-midway-holds": (
        "a parameter frozen midway counts as zeros in the flat vector, and the direction from earlier steps still moves it (torch 2.13)"
    ),
    "no-state-for-frozen": "the state of the whole optimizer is kept under its first parameter, frozen or not (torch 2.13)",
}

KNOWN_FAILURES: dict[tuple[str, str | None], dict[str, Any]] = {
    ("torch.optim.adagrad.Adagrad", None): {
        "expected_failures": {
            "no-state-for-frozen": "the constructor allocates `sum` and `step` for every parameter, frozen ones too (torch 2.13)",
        },
    },
    ("torch.optim.lbfgs.LBFGS", None): {
        "rounding": "A pads LBFGS's flat vector with zeros for frozen parameters, which shifts where SIMD reductions split",
        "dtypes": ("float64",),
        "per_parameter": False,
        "expected_failures": _LBFGS,
    },
    ("torch.optim.lbfgs.LBFGS", "default"): {
        "expected_failures": {
            **_LBFGS,
            "frozen-weights-unchanged": (
                "without a line search, once its direction overflows, as after a step whose gradients were clipped, a frozen parameter's "
                "zeros in the flat vector become NaN, and so does the parameter (torch 2.13)"
            ),
        },
        "known_cases": {
            "frozen-weights-unchanged": _KNOWN / "torch.optim_LBFGS-frozen-weights-unchanged.json"
        },
    },
    ("torch.optim.sgd.SGD", "foreach"): {
        "rounding": (
            "while one member of a group has no momentum buffer yet, the others are updated one by one, which rounds otherwise in bfloat16 "
            "(torch 2.13)"
        ),
    },
    ("torch.optim.sgd.SGD", "fused"): {
        "expected_failures": {
            "gradless-step-is-noop": (
                "with momentum, the kernel raises TypeError once one parameter has a momentum buffer and another, that had no gradient "
                "yet, has none (torch 2.13)"
            ),
            "repeats-itself": (
                "with momentum, a first step that a GradScaler skips leaves the momentum buffers allocated and never written, and the "
                "next step reads them; in bfloat16, memory that is not its own gets into the momentum of larger tensors (torch 2.13)"
            ),
            "thaw-resumes": (
                "with momentum, thawing a parameter that never had a gradient raises TypeError, since its momentum buffer is None while "
                "the others have one (torch 2.13)"
            ),
        },
    },
}

AUTOGRAD_KNOWN_FAILURES: dict[str, Any] = {
    "expected_failures": {
        "repeats-itself": (
            "in bfloat16, oneDNN's kernel for the weight gradient of a convolution with a stride, over an input of 1 by 1, never writes "
            "what lies under the padding: it holds whatever the memory held (torch 2.13, x86 with AVX512-BF16)"
        ),
    },
    "known_cases": {"repeats-itself": _KNOWN / "torch.autograd-repeats-itself.json"},
}
"""The same of autograd on the CPU, for machines whose kernels show it."""
