"""A process that has imported torch and one library of optimizers, and forks for every script.

It is run as a program, so that it contains nothing of frostproof. Importing torch, or the library,
anew for each script would take seconds. A line of JSON asks for a script, a line of JSON answers.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from typing import Any, NoReturn

import torch
import torch._dynamo  # the first optimizer imports it, which takes as long as torch itself

HARNESS = ("frostproof", "frostproof_properties", "hypothesis", "pytest", "_pytest", "xdist")
"""Packages that no script imports. This process has them if it is a fork of a run's process."""


def serve() -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] in HARNESS]:
        del sys.modules[name]
    # As in the harness: tensors are small, and threads that wait for work block the cores.
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # a library may print as it is imported
    for line in sys.stdin:
        request = json.loads(line)
        settle(request)
        with tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                become(request, errors.fileno())
            _, status = os.waitpid(child, 0)
            errors.seek(0)
            answer = {
                "code": os.waitstatus_to_exitcode(status),
                "errors": errors.read().decode(errors="replace"),
            }
        print(json.dumps(answer), file=answers, flush=True)


def settle(request: dict[str, Any]) -> None:
    """Change to the folder, environment and paths of the script, and import its library.

    A library that hangs in this is killed. If it has initialised a GPU, this process ends, because
    its forks could not use the GPU: a new process then runs the script.
    """
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:] = [*request["paths"], *(path for path in sys.path if path not in request["paths"])]
    signal.setitimer(signal.ITIMER_REAL, request["timeout"])
    with suppress(Exception):  # the script will tell
        importlib.import_module(request["module"])
    signal.setitimer(signal.ITIMER_REAL, 0)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        sys.exit("the library has initialised CUDA")


def become(request: dict[str, Any], errors: int) -> NoReturn:
    """Run the script in this process, and end the process. An alarm kills it if it hangs."""
    null = os.open(os.devnull, os.O_RDWR)
    for source, target in ((null, 0), (errors, 2)):
        os.dup2(source, target)
    sys.path.insert(0, os.path.dirname(request["script"]))  # noqa: PTH120  as Python does
    sys.argv[:] = [request["script"]]
    signal.setitimer(signal.ITIMER_REAL, request["timeout"])
    code = 1
    try:
        runpy.run_path(request["script"], run_name="__main__")
        code = 0
    except SystemExit as leaving:
        if isinstance(leaving.code, int | None):
            code = leaving.code or 0
        else:
            print(leaving.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        # To take torch down object by object takes ten times as long as the script.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
