"""All tests: one thread for torch, and scripts in forks of a process that has imported it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from frostproof.process.fork_server import VARIABLE
from tests.helpers import warm

# The workers share the cores, and threads of torch that wait for each other keep a core busy. torch
# reads this when it is imported, here and in every command and script.
os.environ["OMP_NUM_THREADS"] = "1"


# How fast a machine draws is for benchmarks to say.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Start two workers for each core, as tests that run commands wait for half of their time."""
    cores = yield
    return 2 * cores


@pytest.fixture(scope="session", autouse=True)
def _forks() -> None:
    os.environ[VARIABLE] = shlex.join(warm.interpreter())
