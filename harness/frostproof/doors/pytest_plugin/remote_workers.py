"""Workers on other machines, which pytest-xdist reaches with `--tx`: they run the suite that is installed there.

By itself xdist sends pytest to each of them, and breaks off when one that died cannot be reached again. Here nothing is sent, and
a machine that stays away is replaced by a process of this one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from frostproof.doors.pytest_plugin import options

PATIENCE = 15.0
"""Seconds within which a machine whose worker died must answer again."""


class Remote:
    """How a session of ours finds its workers. `warn` hears of each that is lost."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.warn = warn

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        if all(spec.popen for spec in specs) or not options.means_us(config):
            return
        session: Any = config.pluginmanager.get_plugin("dsession")
        manager = session.nodemanager
        if config.getoption("pyargs") and not config.getoption("rsyncdir"):
            manager.roots = []
        reach = manager.group.makegateway
        waiting = len(specs)

        def gateway(spec: Any) -> Any:
            nonlocal waiting
            waiting -= 1
            return _first(reach, spec) if waiting >= 0 else self._again(reach, spec)

        manager.group.makegateway = gateway

    def _again(self, reach: Callable[[Any], Any], spec: Any) -> Any:
        """What takes the place of a worker that died: one on the same machine once it answers, or else one on this machine."""
        from execnet import XSpec

        end = time.monotonic() + PATIENCE
        while True:
            try:
                return _reached(reach, spec)
            except _UnreachableError as error:
                if time.monotonic() < end:
                    time.sleep(0.5)  # between two tries
                    continue
                self.warn(
                    f"worker {_address(spec)} is lost ({error}): a process of this machine takes its place"
                )
                return reach(XSpec(f"popen//id={spec.id}//execmodel=main_thread_only"))


class _UnreachableError(Exception):
    """No worker can be started there; the message is the reason."""


def _reached(reach: Callable[[Any], Any], spec: Any) -> Any:
    from execnet import HostNotFound

    try:
        return reach(spec)
    except (HostNotFound, OSError, EOFError) as error:
        raise _UnreachableError(f"{type(error).__name__} {error}".strip()) from None


def _first(reach: Callable[[Any], Any], spec: Any) -> Any:
    """A worker at the start. Raises pytest.UsageError where there is none."""
    try:
        return _reached(reach, spec)
    except _UnreachableError as error:
        raise pytest.UsageError(
            f"frostproof: no worker at {_address(spec)} ({error}): start it first, see docs/scale.md"
        ) from None


def _address(spec: Any) -> str:
    """Where a worker is, without its folder and its name."""
    return next(
        (
            f"{kind}={value}"
            for kind in ("socket", "ssh", "via")
            if (value := getattr(spec, kind, None))
        ),
        "popen",
    )
