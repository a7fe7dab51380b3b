"""The script of a death: it trains in a child process, and tells how that process ended.

`python -m frostproof.verification.death_script CASEFILE SECONDS` searches for it and prints it.
A training that takes more than so many seconds hangs.
That is a process of its own, because what killed a worker may kill it too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

from frostproof.counterexamples.execution import started, verdict
from frostproof.counterexamples.script import training
from frostproof.errors import FrostproofError, UnprintableError
from frostproof.process.fence import fenced
from frostproof.spec.casefile import CRASHED, CaseFile, load_case
from frostproof.spec.subject import Subject
from frostproof.training.source import WIDTH
from frostproof.verification.replay import approaches_of, probed_subject

LAUNCHER = """import signal
import subprocess
import sys

if sys.argv[1:] != ["train"]:
    try:
        command = [sys.executable, __file__, "train"]
        done = subprocess.run(command, stderr=subprocess.PIPE, timeout={limit})
    except subprocess.TimeoutExpired:
        sys.exit("crashed: the training hung for {limit} s")
    sys.stderr.write(done.stderr.decode(errors="replace"))
    if done.returncode < 0:
        sys.exit(f"crashed: the training ended with {signal.Signals(-done.returncode).name}")
    if done.returncode == 1 and b"Traceback (most recent call last):" in done.stderr:
        sys.exit("the training raised an exception, which ends no process that catches it")
    if done.returncode:
        sys.exit(f"crashed: the training exited with code {done.returncode}")
    sys.exit()
"""


def find_death_script(saved: CaseFile, folder: Path, limit: int) -> str | None:
    """The first script, one per role, in which a new process dies, run from `folder`; or None.

    A process hangs after `limit` seconds.
    """
    subject, ways = probed_subject(saved), approaches_of(saved)
    for role in ways.roles_for(saved.case):
        try:
            with fenced(saved.device, subject.setting):
                text = with_launcher(
                    training(saved.case, subject, role, saved.device, ways), subject, limit
                )
        except UnprintableError:
            continue
        if shows_death(text, folder, limit):
            return text
    return None


def with_launcher(text: str, subject: Subject, limit: int) -> str:
    """The script of a training, after the lines that run it in a process of its own."""
    # The launcher imports sys. The header says what is asserted, which here is nothing.
    lines = [line for line in text.splitlines(keepends=True) if line != "import sys\n"]
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    launcher = LAUNCHER.replace("{limit}", str(limit))
    return "\n".join([*_header(subject), "", launcher, ""]) + "".join(lines).lstrip("\n")


def shows_death(text: str, folder: Path, limit: int) -> bool:
    """Whether the script shows a death."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "death.py"
        path.write_text(text, encoding="utf-8")
        try:
            code, errors = started(path, folder, [str(folder), *filter(None, sys.path)], limit + 15)
        except subprocess.TimeoutExpired:
            return False
    return verdict(code, errors, CRASHED).reproduced


def _header(subject: Subject) -> Iterator[str]:
    version = f" {subject.version}" if subject.version else ""
    text = (
        f"crashed: training must not end its process. Exits 1 while {subject.name}{version} "
        "ends it or hangs, and 0 once it does not."
    )
    yield from textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def print_death_script(path: str, limit: int) -> int:
    try:
        with redirect_stdout(sys.stderr):  # an optimizer may print
            text = find_death_script(load_case(Path(path)), Path.cwd(), limit)
    except FrostproofError as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.write(text or "")
    return 0


if __name__ == "__main__":
    sys.exit(print_death_script(sys.argv[1], int(sys.argv[2])))
