"""All tests: scripts run in forks of a process that has imported torch."""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator

import pytest

from frostproof.process.fork_server import VARIABLE
from tests.helpers import warm


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Start two workers for each core, as tests that run commands wait for half of their time."""
    cores = yield
    return 2 * cores


@pytest.fixture(scope="session", autouse=True)
def _forks() -> None:
    os.environ[VARIABLE] = shlex.join(warm.interpreter())
