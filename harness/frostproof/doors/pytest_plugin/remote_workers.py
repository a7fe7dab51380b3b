"""Workers on other machines, which pytest-xdist reaches with `--tx`.

They run the suite that is installed there. xdist by itself sends pytest to each machine, and ends
the run if it cannot reach the machine of a worker that died. For our suite nothing is sent, and a
process on this machine replaces a worker whose machine stays away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from frostproof.doors.pytest_plugin.options import asks_for_us

ANSWER_TIMEOUT_S = 15.0
"""Time within which a machine whose worker died must answer again."""

Gateway = Callable[[Any], Any]
"""Starts a worker as an execnet specification says."""


class RemoteWorkers:
    """A plugin of the controller. `warn` is called for each worker that is lost."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.warn = warn

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        if all(spec.popen for spec in specs) or not asks_for_us(config):
            return
        session: Any = config.pluginmanager.get_plugin("dsession")
        manager = session.nodemanager
        if config.getoption("pyargs") and not config.getoption("rsyncdir"):
            manager.roots = []
        make_gateway: Gateway = manager.group.makegateway
        first_workers = len(specs)

        def gateway(spec: Any) -> Any:
            nonlocal first_workers
            first_workers -= 1
            if first_workers >= 0:
                return _start_first(make_gateway, spec)
            return self._replace(make_gateway, spec)

        manager.group.makegateway = gateway

    def _replace(self, make_gateway: Gateway, spec: Any) -> Any:
        """Replace a worker that died, on the same machine or, if that is lost, on this one."""
        from execnet import XSpec

        end = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            try:
                return _start(make_gateway, spec)
            except _UnreachableError as error:
                if time.monotonic() >= end:
                    reason = str(error)
                    break
                time.sleep(0.5)
        self.warn(
            f"worker {_address(spec)} is lost ({reason}): a process of this machine takes its place"
        )
        return make_gateway(XSpec(f"popen//id={spec.id}//execmodel=main_thread_only"))


class _UnreachableError(Exception):
    """No worker can be started on a machine. The message is the reason."""


def _start(make_gateway: Gateway, spec: Any) -> Any:
    from execnet import HostNotFound

    try:
        return make_gateway(spec)
    except (HostNotFound, OSError, EOFError) as error:
        raise _UnreachableError(f"{type(error).__name__} {error}".strip()) from None


def _start_first(make_gateway: Gateway, spec: Any) -> Any:
    """Start a worker at the beginning of the run. Raises pytest.UsageError."""
    try:
        return _start(make_gateway, spec)
    except _UnreachableError as error:
        raise pytest.UsageError(
            f"frostproof: no worker at {_address(spec)} ({error}): "
            "start it first, see docs/scale.md"
        ) from None


def _address(spec: Any) -> str:
    """Return where a worker is, without its folder and its name."""
    for kind in ("socket", "ssh", "via"):
        if value := getattr(spec, kind, None):
            return f"{kind}={value}"
    return "popen"
