"""All tests: scripts run in forks of a process that has imported torch."""

from __future__ import annotations

import os
import shlex

import pytest

from frostproof.process.fork_server import VARIABLE
from tests.helpers import warm


@pytest.fixture(scope="session", autouse=True)
def _forks() -> None:
    os.environ[VARIABLE] = shlex.join(warm.interpreter())
