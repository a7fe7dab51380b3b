"""A server that forks: each fork is a new Python that has imported torch already.

Importing torch takes seconds, and every worker of pytest-xdist would do it again. The server is
forked from a process that has imported torch and has started no thread. It listens on a socket.
`fork_client.py` takes the place of a Python interpreter. It hands its standard streams to the
server, whose fork takes them over and runs the client's code. The client exits as its fork does.
If a client is killed, its fork is killed too. If the first process ends, all of them end.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import selectors
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from frostproof.process.quiet import quiet

STREAMS = 3
"""Standard input, output and error."""

OPENBLAS = "OPENBLAS_NUM_THREADS"
"""The environment variable with the number of threads that OpenBLAS starts."""

VARIABLE = "FROSTPROOF_PYTHON"
"""The environment variable through which the processes of a run find its server."""


FORKS = sys.platform == "linux"
"""Whether a process may fork once it has imported torch. Other systems' libraries forbid it."""


def can_fork() -> bool:
    """Whether this process may fork as it is.

    It must have only one thread, because a lock that another thread holds stays locked in a fork.
    """
    if not FORKS or len(list(Path("/proc/self/task").iterdir())) > 1:
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # before Linux 5.3
        return False
    return True


def interpreter() -> list[str]:
    """The command of a Python interpreter, to run `-c CODE`: one that has imported torch, if any.

    Such a one is a fork, which has imported parts of frostproof too.
    """
    return shlex.split(os.environ.get(VARIABLE, "")) or [sys.executable]


class ForkServer:
    """Starts the server, which lives until `close` or the end of this process."""

    def __init__(self) -> None:
        """Raises OSError if the server cannot be started."""
        # Other users cannot enter this folder.
        self.folder = Path(tempfile.mkdtemp(prefix="frostproof-"))
        with socket.socket(socket.AF_UNIX) as listener:
            try:
                listener.bind(str(self.folder / "socket"))
            except OSError:  # such as a path of more than 107 bytes
                self.folder.rmdir()
                raise
            listener.listen(128)
            ours, theirs = os.pipe()
            self.process = os.fork()
            if self.process == 0:
                os.close(theirs)
                _serve(listener, ours, self.folder)
        os.close(ours)
        self.lifeline = theirs
        client = Path(__file__).with_name("fork_client.py")
        command = [sys.executable, "-I", "-S", str(client), str(self.folder / "socket")]
        self.python = shlex.join(command)
        """The command that takes the place of a Python interpreter, quoted as for a shell."""
        os.environ[VARIABLE] = self.python

    def close(self) -> None:
        """End the server and its forks."""
        os.environ.pop(VARIABLE, None)
        os.close(self.lifeline)
        os.waitpid(self.process, 0)


@contextmanager
def forking(modules: Iterable[str]) -> Iterator[ForkServer | None]:
    """Import modules, and have a server while the block runs; None where this process cannot fork.

    Nothing that the modules print is shown.
    """
    server = None
    if can_fork():
        with quiet(), _openblas_without_threads():
            for name in modules:
                import_module(name)
        gc.freeze()  # Collections, of which pytest makes several, then pass over the modules.
        if can_fork():  # The imports may have started threads.
            with suppress(OSError):  # Processes are then started as usual.
                server = ForkServer()
    try:
        yield server
    finally:
        if server is not None:
            server.close()
        gc.unfreeze()  # else nanobind takes what triton has for a leak, and prints it at the exit


@contextmanager
def _openblas_without_threads() -> Iterator[None]:
    """Keep the OpenBLAS of NumPy, which torch imports, from starting threads when it is loaded.

    It reads its number of threads only then. The variable's value, if it has one, is kept.
    """
    if OPENBLAS in os.environ:
        yield
        return
    os.environ[OPENBLAS] = "1"
    try:
        yield
    finally:
        del os.environ[OPENBLAS]


def _serve(listener: socket.socket, lifeline: int, folder: Path) -> None:
    """Be the server until nobody holds the other end of `lifeline`, then end all forks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Only `close` ends the server.
    forks: dict[int, socket.socket] = {}  # the process of a fork -> its client
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(lifeline, selectors.EVENT_READ)
            selector.register(listener, selectors.EVENT_READ, partial(_accept, listener, forks))
            while True:
                for key, _ in selector.select():
                    if key.fileobj == lifeline:
                        return
                    key.data(selector)
    finally:
        for process in forks:
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


def _accept(
    listener: socket.socket, forks: dict[int, socket.socket], selector: selectors.BaseSelector
) -> None:
    """Fork for a new client. A stranger is not served."""
    client, _ = listener.accept()
    with suppress(OSError, ValueError):
        request, streams = _receive(client)
        process = os.fork()
        if process == 0:
            _become(request, streams)
        for each in streams:
            os.close(each)
        client.settimeout(None)
        forks[process] = client
        handle = os.pidfd_open(process)
        ended, gone = partial(_report_end, forks, process, handle), partial(_kill, forks, process)
        selector.register(handle, selectors.EVENT_READ, ended)
        selector.register(client, selectors.EVENT_READ, gone)


def _kill(forks: dict[int, socket.socket], process: int, selector: selectors.BaseSelector) -> None:
    """Kill the fork of a client that is gone, unless it has ended at the same time."""
    if process in forks:
        selector.unregister(forks[process])
        os.kill(process, signal.SIGKILL)


def _report_end(
    forks: dict[int, socket.socket], process: int, handle: int, selector: selectors.BaseSelector
) -> None:
    """Tell the client of a fork that has ended its exit code."""
    client = forks.pop(process)
    selector.unregister(handle)
    os.close(handle)
    _, status = os.waitpid(process, 0)
    with suppress(KeyError):  # if the client is gone
        selector.unregister(client)
    with client, suppress(OSError):
        client.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _receive(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the request and the standard streams of a client."""
    client.settimeout(10)  # Nobody else is served for so many seconds.
    _, streams, _, _ = socket.recv_fds(client, 1, STREAMS)
    with client.makefile("rb") as file:
        return json.loads(file.readline()), list(streams)


def _become(request: dict[str, Any], streams: list[int]) -> NoReturn:
    """Run the code of a client in this fork, and exit."""
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        atexit._clear()
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv[:] = ["-c"]
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
        exec(request["code"], {"__name__": "__main__"})
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            atexit._run_exitfuncs()
        os._exit(code)
