"""Workers of pytest-xdist as forks of one process that has imported what all of them need."""

from __future__ import annotations

from typing import Any

import pytest

from frostproof.process.fork_server import ForkServer

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
    """A plugin that lets pytest-xdist start its local workers as forks of the server's process."""

    def __init__(self, server: ForkServer) -> None:
        self.server = server

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: list[Any]) -> None:
        for spec in specs:
            if spec.popen and spec.python is None:
                spec.python = self.server.python
