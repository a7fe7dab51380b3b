"""A process that has imported torch and nothing else, and forks for every script that it is asked to run.

Run as a program, so that nothing of frostproof is in it. To import torch anew for each script takes seconds. A line of JSON
asks for a script, a line of JSON answers.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import tempfile
from typing import Any

import torch._dynamo  # noqa: F401  not used here: every script's first optimizer imports it, which takes as long as torch itself


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                become(request, errors.fileno())
                return
            _, status = os.waitpid(child, 0)
            errors.seek(0)
            answer = {"code": os.waitstatus_to_exitcode(status), "errors": errors.read().decode(errors="replace")}
        print(json.dumps(answer), flush=True)


def become(request: dict[str, Any], errors: int) -> None:
    """Be the process that runs the script, to its end; an alarm kills it in good time, whatever it hangs in."""
    null = os.open(os.devnull, os.O_RDWR)
    for source, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(source, target)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = request["paths"]
    sys.argv[:] = [request["script"]]
    signal.setitimer(signal.ITIMER_REAL, request["timeout"])
    runpy.run_path(request["script"], run_name="__main__")


if __name__ == "__main__":
    serve()
