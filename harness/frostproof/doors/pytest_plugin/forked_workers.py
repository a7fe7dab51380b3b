"""Workers of pytest-xdist as forks of one process that has imported what all of them need."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest

from frostproof.process.fork_server import ForkServer, can_fork
from frostproof.process.quiet import quiet

PRELOADED = (
    "torch",
    "torch._dynamo",  # Building the first optimizer imports it.
    "xdist.remote",
    "frostproof.doors.pytest_plugin.suite",
    "frostproof.doors.pytest_plugin.worker",
    "frostproof.doors.pytest_plugin.example_database",
    "frostproof.verification.search",
    "frostproof.verification.reproduction",
    "frostproof.process.fence",
)


class ForkedWorkers:
    """A plugin that lets pytest-xdist start its local workers as forks.

    Use it as a context manager around `pytest.main`.
    """

    def __init__(self) -> None:
        self.server: ForkServer | None = None

    def __enter__(self) -> ForkedWorkers:
        if can_fork():
            with quiet():
                for name in PRELOADED:
                    import_module(name)
            if can_fork():  # The imports may have started threads.
                with suppress(OSError):  # Workers are then started as usual.
                    self.server = ForkServer()
        return self

    def __exit__(self, *error: object) -> None:
        if self.server is not None:
            self.server.close()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: list[Any]) -> None:
        for spec in specs:
            if self.server is not None and spec.popen and spec.python is None:
                spec.python = self.server.python
