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
"""The phase of a training. Each is the point of a mark, which its statements follow.

In `regroup` the optimizer follows a change of the mask; in `load` a checkpoint is loaded.

Other marks are points at which there is something to observe. Within a step they come in this
order:

- `cleared`: gradients were cleared.
- `loss`: the loss was computed.
- `pass`: one backward pass is done; `gradients`: all are done.
- `clip`: the gradients of the whole model are about to be clipped.
- `handed`: gradients are as step() finds them.
- `called`, `returning`: the start and the end of a closure; `returned`: step(closure) is over.
- `refused`: GradScaler raised because no parameter had a gradient.

`seed` puts the generators into the state of the event's seed. `before` and `end` enclose each
event. `network`, `built`, `owned`, `changed`, `replacing`, `rebuilt`, `added`, `resumed`, `loaded`,
`modes` and `switched` report changes of the model and its optimizer.
"""

PHASES = frozenset(get_args(Phase))
