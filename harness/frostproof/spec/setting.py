"""A setting: how a training is wrapped, as statements of plain torch around model and optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, eq=False)
class Setting:
    """What a training does to its model and to its optimizer's step before it uses them.

    Its fields are statements and expressions of plain torch. A trial executes them, and a script
    prints them. They may use `torch`, `nn`, and the variables `model` and `optimizer`.
    """

    name: str
    """How `--setting` names it: one of `frostproof list settings`, or `module:NAME`."""

    summary: str
    """What it does, in one line for people."""

    before: tuple[str, ...] = ()
    """Statements before the model is built."""

    built: tuple[str, ...] = ()
    """Statements behind each model that is built, before anything is frozen and before there is an
    optimizer. They may change the model in place."""

    model: str = ""
    """An expression that wraps `model`. The forward pass calls what it returns."""

    follows_flags: bool = False
    """Whether the model is wrapped anew once `requires_grad` of a parameter has changed. A model
    without any parameter that requires grad is then not wrapped."""

    optimizer: str = ""
    """How the optimizer is built: an expression with `{factory}` and `{arguments}` for what builds
    it elsewhere, and from what."""

    inner: str = ""
    """The attribute by which that optimizer holds another one, which has the state."""

    edits_groups: bool = True
    """Whether members may be taken out of the optimizer's parameter groups. If not, B builds
    another optimizer for a mask that would need it."""

    saving: tuple[str, ...] = ()
    """Statements before a checkpoint is saved."""

    saved: str = "optimizer.state_dict()"
    """An expression for the optimizer's part of a checkpoint."""

    step: str = ""
    """An expression that wraps `optimizer.step`, and is called in its place. A GradScaler calls
    `optimizer.step` itself, so that no program uses one in a setting that wraps the step."""

    ranks: int = 1
    """The number of processes that train together, each with its own share of each batch. They
    form a process group of torch.distributed."""

    shards: bool = False
    """Whether each rank has a shard of every parameter, a DTensor, which is judged as it is."""

    compiles: bool = False
    """Whether torch.compile compiles. Otherwise code that asks for it runs eagerly."""

    needs_torch: Mapping[str, str] = field(default_factory=dict)
    """Releases of torch without which nothing is judged, such as ">=2.12", each with the reason."""

    one_in: int = 1
    """One example is tried where the setting `eager` tries so many, since a trial takes longer."""

    not_judged: Mapping[str, str] = field(default_factory=dict)
    """Ids of invariants that mean nothing in this setting, each with the reason."""


EAGER = Setting("eager", "the model and the optimizer as they are")

_COMPILES = (
    "torch._dynamo.reset()",
    "config = torch._dynamo.config",
    "config.recompile_limit = config.accumulated_recompile_limit = 2**16",
)
"""The statements with which each training that compiles begins.

It compiles as a new process would. All roles of a trial share the code of the optimizer, so that
together they need more than the usual limit of 8, beyond which torch.compile silently runs eager
code. An optimizer whose step is compiled again and again breaks `compiled-step-settles`.
"""

_STALE_GRAPH = (
    "before, a compiled model keeps the graph that it had when requires_grad of a parameter "
    "changes, so that what thaws gets no gradient (pytorch issue 139476)"
)

MORE_THAN_THE_LIMIT = 9
"""Steps of which torch.compile would run the last eagerly, if it compiled each of them anew: by
default it compiles a function eight times."""

_OWN_GRAPH = "torch.compile replaces the operations of the layers, which the hooks do not see"


def _compiled(name: str, backend: str, *, one_in: int) -> Setting:
    return Setting(
        name,
        f"torch.compile of the model and of the optimizer's step, backend {backend}",
        before=_COMPILES,
        model=f'torch.compile(model, backend="{backend}")',
        step=f'torch.compile(optimizer.step, backend="{backend}")',
        compiles=True,
        needs_torch={">=2.12": _STALE_GRAPH},
        one_in=one_in,
        not_judged=dict.fromkeys(("no-graph-below", "cost-bounded"), _OWN_GRAPH),
    )


COLLECTIVE_LIMIT = 5
"""Seconds that a rank waits for the others in a collective, before that raises."""


_SUM_IS_AVERAGED = "DDP averages the sum with the leftover gradient, which rounds in another order"


def _ddp(name: str, ranks: int, *, one_in: int, beside: str = "") -> Setting:
    return Setting(
        name,
        f"DistributedDataParallel on {ranks} ranks, each with its share of the batch{beside}",
        model=(
            "nn.parallel.DistributedDataParallel(model, find_unused_parameters=True, "
            "broadcast_buffers=False)"
        ),
        follows_flags=True,
        ranks=ranks,
        one_in=one_in,
        not_judged={"stale-grads-accumulate": _SUM_IS_AVERAGED},
    )


_FSDP2 = Setting(
    "fsdp2",
    "fully_shard of the model on 2 ranks, each with its share of the batch",
    before=("from torch.distributed.fsdp import fully_shard",),
    built=(
        'mesh = torch.distributed.init_device_mesh("cpu", (2,))',
        "fully_shard(model, mesh=mesh, reshard_after_forward=True)",
    ),
    ranks=2,
    shards=True,
    one_in=2,
    not_judged={
        "ranks-agree": "each rank has other shards",
        **dict.fromkeys(
            ("no-graph-below", "cost-bounded"),
            "fully_shard puts other tensors in the place of the parameters, which hooks see",
        ),
    },
)


_ZERO = replace(
    _ddp("zero", 2, one_in=2, beside="; ZeroRedundancyOptimizer"),
    before=("from torch.distributed.optim import ZeroRedundancyOptimizer",),
    optimizer=("ZeroRedundancyOptimizer({arguments}, optimizer_class={factory})"),
    inner="optim",
    edits_groups=False,
    saving=(
        "optimizer.consolidate_state_dict()",
        "states = [optimizer.state_dict() if torch.distributed.get_rank() == 0 else None]",
        "torch.distributed.broadcast_object_list(states)",
    ),
    saved="states[0]",
)


SETTINGS: tuple[Setting, ...] = (
    EAGER,
    _compiled("compiled", "aot_eager", one_in=10),
    _compiled("compiled-inductor", "inductor", one_in=50),
    _ddp("ddp", 2, one_in=1),
    _ddp("ddp-3", 3, one_in=4),
    _FSDP2,
    _ZERO,
)
"""The settings that `--setting` knows by a name alone."""

BY_NAME = {setting.name: setting for setting in SETTINGS}
