"""A process that has imported torch and one library of optimizers, and forks for every script that it is asked to run.

Run as a program, so that nothing of frostproof is in it. To import torch, or the library, anew for each script takes seconds. A
line of JSON asks for a script, a line of JSON answers.
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
import torch._dynamo  # every script's first optimizer imports it, which takes as long as torch itself


def serve() -> None:
    # As the harness runs what it judges: threads that wait for work keep others from their cores, and tensors are small.
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
    """Be where the script is to run, and import what it will; whoever hangs in that is killed, and whoever has a GPU by then ends,
    as its forks could not use it: the script is then run by a new process.
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
    """Be the process that runs the script, to its end; an alarm kills it in good time, whatever it hangs in."""
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
