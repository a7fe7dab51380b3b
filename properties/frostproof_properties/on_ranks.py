"""What facts of torch.distributed are about, done on two ranks: each function runs on every one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

from frostproof.process.quiet import quiet
from frostproof.process.ranks import RankProcesses
from frostproof.training.bits import bits_of

RANKS = 2
distributed: Any = torch.distributed


@contextmanager
def ranks() -> Iterator[Callable[[str], list[Any]]]:
    """Two ranks. The function asks for one of the functions below, and returns their answers."""
    processes = RankProcesses(f"{__name__}:serve", RANKS)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        processes.ask([(str(store), rank) for rank in range(RANKS)])
        try:
            yield lambda name: processes.ask([name] * RANKS)
        finally:
            if processes.alive:
                processes.end()


def serve(receive: Callable[[], Any], send: Callable[[Any], None]) -> None:
    path, rank = receive()
    torch.set_num_threads(1)
    store = distributed.FileStore(path, RANKS)
    limit = timedelta(seconds=20)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=RANKS, timeout=limit)
    send(None)
    while True:
        send(globals()[receive()]())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))


def train(model: nn.Module, called: nn.Module, steps: int = 2) -> str:
    """Steps on a batch of this rank's own; the message of a RuntimeError, or an empty one."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(torch.distributed.get_rank())
    for _ in range(steps):
        optimizer.zero_grad()
        try:
            called(torch.randn(3, 2)).square().sum().backward()
        except RuntimeError as error:
            return str(error)
        optimizer.step()
    return ""


def nothing_trainable() -> str:
    try:
        DistributedDataParallel(network().requires_grad_(False))
    except RuntimeError as error:
        return str(error)
    return ""


def frozen_after_wrapping() -> tuple[str, str]:
    """Without, and with, a search for unused parameters."""
    found = []
    for search in (False, True):
        model = network()
        wrapped = DistributedDataParallel(model, find_unused_parameters=search)
        model[0].requires_grad_(False)
        found.append(train(model, wrapped))
    return found[0], found[1]


def thawed_after_wrapping() -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """The weights where the model stays wrapped, and where it is wrapped anew."""
    found = []
    for anew in (False, True):
        model = network()
        model[0].requires_grad_(False)
        wrapped = DistributedDataParallel(model)
        model[0].requires_grad_(True)
        train(model, DistributedDataParallel(model) if anew else wrapped)
        found.append(bits_of(model.parameters()))
    return found[0], found[1]


def reduced_elements() -> tuple[int, int]:
    """The number of gradients' elements that a step reduces, in A and in B."""
    found = []
    for flags in (True, False):
        model, counts = network(), list[int]()
        if flags:
            model[0].requires_grad_(False)
        wrapped = DistributedDataParallel(model)

        wrapped.register_comm_hook(
            counts,
            lambda state, bucket: _count(state, bucket),  # noqa: PLW0108  it reads annotations
        )
        train(model, wrapped, steps=1)
        found.append(sum(counts))
    return found[0], found[1]


def _count(counts: list[int], bucket: Any) -> Any:
    counts.append(bucket.buffer().numel())
    future: torch.futures.Future[Any] = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


def flat_parameters() -> str:
    model = network()
    model[0].requires_grad_(False)
    try:
        FullyShardedDataParallel(model, use_orig_params=False, device_id=torch.device("cpu"))
    except ValueError as error:
        return str(error)
    return ""


def sharded(after_forward: bool | None = True) -> nn.Sequential:
    """The network, whose parameters are DTensors with a shard on each rank."""
    model = network()
    mesh = distributed.init_device_mesh("cpu", (RANKS,))
    fully_shard(model, mesh=mesh, reshard_after_forward=after_forward)
    return model


def passed(model: nn.Module) -> Any:
    """The loss of a batch that all ranks share, each of them a half."""
    torch.manual_seed(1)
    batch = torch.randn(2 * RANKS, 2).chunk(RANKS)[distributed.get_rank()]
    return model(batch).square().sum()


def flags_after_sharding() -> tuple[list[list[bool]], list[float]]:
    """Whether each parameter has a gradient: frozen after sharding, and thawed again.

    And by which factors an element of a gradient then differs from that of the whole batch.
    """
    model, found = sharded(), list[list[bool]]()
    passed(model).backward()
    for requires_grad in (False, True):
        model[0].requires_grad_(requires_grad)
        model.zero_grad()
        passed(model).backward()
        found.append([p.grad is not None for p in model.parameters()])
    plain = network()
    torch.manual_seed(1)
    (plain(torch.randn(2 * RANKS, 2)).square().sum() / RANKS).backward()
    pairs = zip(model.parameters(), plain.parameters(), strict=True)
    gradients: list[Any] = [(p.grad, q.grad) for p, q in pairs]
    ratios = torch.cat([(p.full_tensor() / q).flatten() for p, q in gradients])
    return found, sorted({*ratios.round(decimals=3).tolist()})


def forward_alone() -> list[tuple[list[str], list[bool]]]:
    """What the parameters are after a forward pass without a backward pass, each way to reshard.

    And whether they get gradients in the next step.
    """
    found = []
    for after_forward in (None, True):
        model = sharded(after_forward)
        passed(model)
        owned = [*model.parameters()]
        passed(model).backward()
        kinds = sorted({type(p).__name__ for p in owned})
        found.append((kinds, [p.grad is not None for p in owned]))
    return found


def _sharded_sgd(parameters: Any) -> Any:
    with quiet():  # Its module warns of torch's own deprecated functions.
        from torch.distributed.optim import ZeroRedundancyOptimizer

    return ZeroRedundancyOptimizer(parameters, torch.optim.SGD, lr=0.1)


def trainable_of_zero() -> int:
    """The number of trainable parameters that this rank has to step."""
    model = network()
    model[2].requires_grad_(False)
    optimizer = _sharded_sgd(model.parameters())
    groups = optimizer.optim.param_groups
    return sum(p.requires_grad for group in groups for p in group["params"])


def left_group_of_zero() -> bool:
    """Whether a parameter that was taken out of its group still moves."""
    model = network()
    optimizer = _sharded_sgd(model.parameters())
    left = optimizer.param_groups[0]["params"].pop(0)
    before = bits_of([left])
    passed(model).backward()
    optimizer.step()
    return bits_of([left]) != before


def generator_in_zero() -> list[int]:
    """The sizes of two groups, one given as a list and one as a generator."""
    model = network()
    groups = [{"params": [*model[0].parameters()]}, {"params": model[2].parameters()}]
    optimizer = _sharded_sgd(groups)
    return [len(group["params"]) for group in optimizer.param_groups]
