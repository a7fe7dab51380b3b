"""Known failures of torch's own optimizers, and where they are not exact.

Each reason names the releases of torch for which it holds, and is stated for these alone. The suite
fails if one of them no longer shows the failure, and if another one does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from frostproof.optimizers.torch_version import torch_is

_KNOWN = Path(__file__).with_name("known_cases")
"""Case files of failures that a search rarely finds."""


class Known(NamedTuple):
    """Why an optimizer fails, or is not exact."""

    releases: str
    """Those of torch in which it does, such as `>=2.9,<2.14`."""

    reason: str

    def __str__(self) -> str:
        return f"{self.reason} (torch {self.releases})"


def stated(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Subject, from an entry without what holds for other releases of torch."""
    fields: dict[str, Any] = {}
    for name, value in entry.items():
        if isinstance(value, Known):
            fields |= {name: str(value)} if torch_is(value.releases) else {}
        elif isinstance(value, Mapping):
            fields[name] = stated(value)
        else:
            fields[name] = value
    return fields


_LBFGS = {
    "gradless-step-is-noop": Known(
        ">=2.7",
        "a None gradient is zeros in the flat vector, and the direction from earlier steps still "
        "moves the parameter",
    ),
    "freeze-midway-holds": Known(
        ">=2.7",
        "a parameter frozen midway is zeros in the flat vector, and the direction from earlier "
        "steps still moves it",
    ),
    "no-state-for-frozen": Known(
        ">=2.7",
        "the state of the whole optimizer belongs to its first parameter, which may be frozen",
    ),
}

_LENGTHS_DIFFER = Known(
    ">=2.7",
    "each rank searches along the line with the loss of its own share of the batch, and takes a "
    "step of its own length",
)

_LBFGS_PER_RANK = Known(
    ">=2.7",
    "each rank has an LBFGS for its own part of the parameters: ranks differ in how often they "
    "call the closure, a rank may have no parameter, and frozen parameters decide which parameters "
    "share a direction",
)

_LBFGS_IN_ZERO = dict.fromkeys(
    ("trainable-updates-match", "gradless-step-is-noop", "thaw-resumes"), _LBFGS_PER_RANK
)

_FORGETS_MOMENTUM = Known(
    ">=2.7",
    "while nothing in the first group has a gradient, the compiled step does not see the momentum "
    "buffers of the other groups, and starts them anew each time",
)

_SGD_COMPILED = {
    setting: dict.fromkeys(("trainable-updates-match", "compiled-step-agrees"), _FORGETS_MOMENTUM)
    for setting in ("compiled", "compiled-inductor")
}

KNOWN_FAILURES: dict[tuple[str, str | None], Mapping[str, Any]] = {
    ("torch.optim.adagrad.Adagrad", None): {
        "expected_failures": {
            "no-state-for-frozen": Known(
                ">=2.7",
                "the constructor allocates `sum` and `step` for every parameter, frozen ones too",
            ),
            "group-added-trains": Known(
                "<2.12",
                "only the constructor allocates `sum` and `step`, so that step() raises KeyError "
                "on the parameters of a group that add_param_group added",
            ),
        },
        "expected_in": {
            "zero": {
                "checkpoint-resumes": Known(
                    ">=2.12",
                    "the constructor allocates `sum` and `step`, and load_state_dict() of "
                    "ZeroRedundancyOptimizer keeps them for a parameter of which the checkpoint "
                    "has no state",
                ),
            },
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
        "expected_in": {"zero": _LBFGS_IN_ZERO},
    },
    ("torch.optim.lbfgs.LBFGS", "default"): {
        "expected_failures": {
            **_LBFGS,
            "frozen-weights-unchanged": Known(
                ">=2.7",
                "without a line search, the direction may overflow, for example after a step with "
                "clipped gradients; the zeros of a frozen parameter in the flat vector then become "
                "NaN, and so does the parameter",
            ),
        },
        "known_cases": {
            "frozen-weights-unchanged": _KNOWN / "torch.optim_LBFGS-frozen-weights-unchanged.json"
        },
    },
    ("torch.optim.lbfgs.LBFGS", "strong_wolfe"): {
        "expected_in": {
            "ddp": {"ranks-agree": _LENGTHS_DIFFER},
            "ddp-3": {"ranks-agree": _LENGTHS_DIFFER},
            "zero": {**_LBFGS_IN_ZERO, "ranks-agree": _LENGTHS_DIFFER},
        },
    },
    ("torch.optim.sgd.SGD", "foreach"): {
        "rounding": Known(
            ">=2.7",
            "while one parameter of a group has no momentum buffer yet, the others are updated one "
            "by one, which rounds differently in bfloat16",
        ),
        "expected_in": _SGD_COMPILED,
    },
    ("torch.optim.sgd.SGD", "forloop"): {"expected_in": _SGD_COMPILED},
    ("torch.optim.sgd.SGD", "fused"): {
        "expected_failures": {
            "gradless-step-is-noop": Known(
                ">=2.7",
                "with momentum, the kernel raises TypeError if one parameter has a momentum buffer "
                "and another, which has not had a gradient, has none",
            ),
            "repeats-itself": Known(
                ">=2.7",
                "with momentum, a first step that a GradScaler skips allocates the momentum "
                "buffers without writing them, and the next step reads them; in bfloat16, the "
                "momentum of larger tensors also takes in memory outside them",
            ),
            "thaw-resumes": Known(
                ">=2.7",
                "with momentum, thawing a parameter that never had a gradient raises TypeError, "
                "because its momentum buffer is None and the others have one",
            ),
        },
    },
}

AUTOGRAD_KNOWN_FAILURES: dict[str, Any] = {
    "expected_failures": {
        "repeats-itself": Known(
            ">=2.7",
            "in bfloat16, for an input of 1 by 1 and a stride, oneDNN's kernel for the weight "
            "gradient of a convolution does not write the elements under the padding, which keep "
            "the earlier content of the memory, on x86 with AVX512-BF16",
        ),
    },
    "expected_in": {
        setting: {
            "no-grad-backward-raises": Known(
                ">=2.7",
                "torch.compile runs a reentrant checkpoint like one that is not reentrant: what is "
                "inside trains, and is cut off otherwise, if no input requires grad",
            )
        }
        for setting in ("compiled", "compiled-inductor")
    },
    "known_cases": {"repeats-itself": _KNOWN / "torch.autograd-repeats-itself.json"},
}
"""The same for autograd on the CPU, on machines whose kernels show it."""
