"""The traits of a way to freeze, observed in a step of AdamW on a small network.

Two frozen layers come before one that trains.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from frostproof.approaches.approach import Approach
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import BatchNorm1d, Linear
from frostproof.spec.program import Step
from frostproof.spec.subject import Subject
from frostproof.training.bits import bits_of
from frostproof.training.recorder import Recorder
from frostproof.training.training import Training

TRAITS = {
    "any": "can freeze any parameters, not only whole first layers",
    "gradients": "frozen parameters get gradients",
    "state": "frozen parameters get optimizer state",
    "decays": "AdamW moves frozen parameters",
    "listed": "frozen parameters stay in model.parameters()",
    "hooks": "a full backward hook on a frozen layer fires",
    "tensor hooks": "a frozen parameter accepts a hook",
    "drifts": "statistics of a frozen BatchNorm drift in train mode",
}
"""The name of each trait, and its description."""

_ARCHITECTURE = Architecture(Input((2,)), (Linear(2), BatchNorm1d(), Linear(2)))
_NAMES = tuple(parameter.name for parameter in _ARCHITECTURE.parameters)
_CASE = Case(_ARCHITECTURE, _NAMES[:4], (Group(_NAMES),), (Step(),), batch=4)
_INSIDE = _CASE.replaced(mask=_NAMES[4:])
_ADAMW = Subject(
    target="torch.optim:AdamW",
    factory=torch.optim.AdamW,
    arguments={"lr": 0.1, "weight_decay": 0.1},
)


def observe_traits(way: Approach) -> dict[str, bool | str]:
    """The names of traits, in the order of TRAITS, and whether each was seen.

    If the step raises an error: `any`, and `raises` with the error's text.
    """
    with fenced("cpu"):
        training = Training(
            _CASE, _ADAMW, way, "cpu", observer=(recorder := Recorder(_CASE, way, ()))
        )
        training.build()
        model, frozen = training.model, recorder.parameters[:4]
        found: dict[str, bool | str] = {"any": not way.unfit(_INSIDE, _ADAMW)}
        found["listed"] = len(list(model.parameters())) == len(_NAMES)
        found["tensor hooks"] = found["listed"] and _takes_hook(model)
        fired: list[Any] = []
        model[0].register_full_backward_hook(lambda *given: fired.append(given))
        weights, statistics = bits_of(frozen), bits_of(_statistics(model))
        try:
            training.run(0)
        except RuntimeError as error:
            return {"any": found["any"], "raises": " ".join(str(error).split()).partition(". ")[0]}
        state = training.optimizer.state
        found |= {
            "gradients": any(p.grad is not None for p in frozen),
            "state": any(state.get(p) for p in frozen),
            "decays": bits_of(frozen) != weights,
            "hooks": bool(fired),
            "drifts": bits_of(_statistics(model)) != statistics,
        }
        return {name: found[name] for name in TRAITS}


def _takes_hook(model: nn.Sequential) -> bool:
    try:
        parameter: Any = next(model[0].parameters())
        parameter.register_hook(lambda gradient: None).remove()
    except RuntimeError:  # the parameter does not require grad
        return False
    return True


def _statistics(model: nn.Sequential) -> list[torch.Tensor]:
    norm: Any = model[1]
    return [norm.running_mean, norm.running_var]
