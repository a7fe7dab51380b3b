"""Runs a script in a process of its own, before anybody sees it."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from frostproof.process.fork_server import FORKS, interpreter

TIMEOUT = 60
HOLDS = "it exits 0"


class Execution(NamedTuple):
    """The result of running a script."""

    reproduced: bool
    """Whether it failed for the stated reason."""
    said: str
    """The line that it printed, or the reason for which it shows nothing."""


def reproduces(
    path: Path,
    invariant: str,
    folder: Path,
    paths: Sequence[str] = (),
    timeout: float = TIMEOUT,
    module: str = "torch",
    expected: str = "",
) -> Execution:
    """Run the script in a new Python from `folder`. It can import from there, and from `paths`.

    `module`: what it imports beside torch, so that this may be done once for many scripts. The
    script reproduces the breach if it exits 1 with the line that names `invariant`; a traceback,
    or any other exit, shows nothing. Where a fork of a Python shows nothing, a Python that is
    started anew decides, unless the fork says what is `expected`: torch may abort in a fork (2.15
    does, where a script compiles).
    """
    where = [str(folder), *filter(None, paths)]
    try:
        if FORKS:
            found = verdict(*_forked(path, folder, where, timeout, module), invariant)
            if found.reproduced or found.said == expected:
                return found
        return verdict(*started(path, folder, where, timeout), invariant)
    except subprocess.TimeoutExpired:
        return Execution(False, f"it took more than {timeout:g} s")


def verdict(code: int, errors: str, invariant: str) -> Execution:
    """What an exit code and the standard error say."""
    lines = errors.strip().splitlines()
    # Only the script's own assertion writes such a line. A library may write others after it, as
    # the process ends.
    stated = [line for line in lines if line.startswith(f"{invariant}: ")]
    if code == 0:
        return Execution(False, HOLDS)
    if code == 1 and stated:
        return Execution(True, stated[-1])
    return Execution(False, f"it exits {code}: {lines[-1]:.200}" if lines else f"it exits {code}")


def started(path: Path, folder: Path, paths: Sequence[str], timeout: float) -> tuple[int, str]:
    """The exit code of a script in a new Python, and its standard error. Raises TimeoutExpired."""
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=folder,
        env={**_environment(), "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stderr


def _forked(
    path: Path, folder: Path, paths: Sequence[str], timeout: float, module: str
) -> tuple[int, str]:
    request: dict[str, Any] = {
        "script": str(path),
        "folder": str(folder),
        "paths": list(paths),
        "environment": _environment(),
        "timeout": timeout,
        "module": module,
    }
    try:
        server = _server(module)
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
    except (OSError, json.JSONDecodeError):  # the server has died
        _end(threading.get_ident())
        return started(path, folder, paths, timeout)
    if answer["code"] == -signal.SIGALRM:
        raise subprocess.TimeoutExpired(request["script"], timeout)
    return answer["code"], answer["errors"]


def _environment() -> dict[str, str]:
    """The environment of this process, without PYTHONWARNINGS.

    A script must not fail for a warning that torch prints while it is imported.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}


_servers: dict[int, tuple[str, Any]] = {}
"""The fork server of each thread, with the module that it has imported. A thread has one at most,
because each has its own copy of torch."""


def _server(module: str) -> Any:
    thread = threading.get_ident()
    if thread not in _servers or _servers[thread][0] != module:
        _end(thread)
        program = str(Path(__file__).with_name("script_server.py"))
        code = f"import runpy; runpy.run_path({program!r}, run_name='__main__')"
        command = [*interpreter(), "-P", "-c", code]
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        server = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=null, text=True, env=_environment()
        )
        _servers[thread] = module, server
    return _servers[thread][1]


def _end(thread: int) -> None:
    if thread in _servers:
        _servers.pop(thread)[1].communicate()


@atexit.register
def _end_all() -> None:
    for thread in tuple(_servers):
        _end(thread)
