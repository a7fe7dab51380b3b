"""The marks between the statements of a training: where it is, and what there is to see."""

from typing import Literal, get_args

Phase = Literal[
    "build",
    "zero_grad",
    "forward",
    "backward",
    "step",
    "train",
    "eval",
    "regroup",
    "load",
    "schedule",
]
"""Where a training is. Each is the point of a mark, behind which its statements stand. `regroup`: the optimizer follows a mask that
changes; `load`: a checkpoint is loaded.

Other marks are points at which there is something to see, in this order within a step: `cleared` (gradients were zeroed), `loss`,
`pass` (one backward pass is done), `gradients` (all are done), `clip` (the whole model's gradients are about to be clipped),
`handed` (gradients are as step() finds them), `called` and `returning` (within a closure), `returned` (step(closure) is over),
`refused` (a GradScaler raised for want of a gradient). `seed` puts the generators into the state of the event's seed. `before` and
`end` enclose each event. `built`, `owned`, `changed`, `rebuilt`, `added`, `resumed`, `modes` and `switched` tell what has become of
the model and its optimizer."""

PHASES = frozenset(get_args(Phase))
