"""Commands in forks of a process that has imported torch, so that each begins at once.

A fork is no child of the test, and has imported pytest and frostproof. Where a test sends signals,
or looks at imports and their warnings, it starts a Python of its own.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from functools import cache

import pytest

SERVE = """
import sys
from frostproof.doors.pytest_plugin.forked_workers import PRELOADED
from frostproof.process.fork_server import forking
with forking(PRELOADED) as server:
    print(server.python if server else "", flush=True)
    sys.stdin.read()
"""


@cache
def interpreter() -> tuple[str, ...]:
    """The command of such a Python; of a fresh one where processes cannot fork."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # It ends when this process ends, and nobody holds its standard input any more.
    assert server.stdout is not None
    return (*shlex.split(server.stdout.readline()),) or (sys.executable,)


def frostproof(*arguments: str) -> list[str]:
    """The command `python -m frostproof ARGUMENTS`."""
    run = "from frostproof.doors.command.main import main\nmain()"
    return _command(["frostproof", *arguments], run)


def python_m_pytest(*arguments: str) -> list[str]:
    """The command `python -m pytest ARGUMENTS`."""
    run = "import pytest\nsys.path.insert(0, os.getcwd())\nsys.exit(pytest.main())"
    return _command(["pytest", *arguments], run)


def _command(argv: list[str], run: str) -> list[str]:
    paths = "sys.path[:0] = filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep))"
    code = f"import os\nimport sys\n{paths}\nsys.argv[:] = {argv!r}\n{run}"
    return [*interpreter(), "-c", code]


def run_pytest(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """As `pytester.runpytest_subprocess`."""
    return pytester.run(*python_m_pytest(*map(str, arguments)))
