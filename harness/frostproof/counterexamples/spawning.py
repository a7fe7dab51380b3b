"""A script of several ranks: it starts a process for each, and they train together."""

from __future__ import annotations

from collections.abc import Sequence

from frostproof.process.fork_server import FORKS
from frostproof.process.ranks import INTERFACE, LOOPBACK
from frostproof.spec.setting import COLLECTIVE_LIMIT
from frostproof.training.source import Statement, block

IMPORTS = {"import datetime", "import os", "import sys", "import tempfile", "import torch"}


def on_ranks(body: Sequence[Statement], count: int, raises: str = "") -> list[Statement]:
    """The statements, run by `count` processes. The script exits as the first that fails does.

    `raises`: the invariant that is broken if a process ends by a signal. Where the ranks call
    unlike collectives, one may time out, or gloo may abort its process.
    """
    join = (
        f'torch.distributed.init_process_group("gloo", rank=rank, world_size={count}, '
        f"store=torch.distributed.FileStore(path, {count}), "
        f"timeout=datetime.timedelta(seconds={COLLECTIVE_LIMIT}))"
    )
    method = "fork" if FORKS else "spawn"
    start = (
        f'torch.multiprocessing.start_processes(work, (f"{{folder}}/store",), {count}, '
        f'start_method="{method}")'
    )
    ended = "except torch.multiprocessing.ProcessExitedException as ended:"
    leaving = f'sys.exit(f"{raises}: a rank was ended by {{ended.signal_name}}")'
    signalled = [block("if ended.signal_name:", leaving)] if raises else []
    return [
        block("def work(rank, path):", "torch.set_num_threads(1)", join, *body),
        block(
            'if __name__ == "__main__":',
            f'os.environ["{INTERFACE}"] = "{LOOPBACK}"  # of this machine alone',
            block(
                "with tempfile.TemporaryDirectory() as folder:",
                block("try:", start),
                block(ended, *signalled, "sys.exit(ended.exit_code)"),
            ),
        ),
    ]
