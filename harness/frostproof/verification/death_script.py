"""The script of a death: it trains in a process of its own, so that it can tell how that process ended.

The search for it runs in a process of its own as well, `python -m frostproof.verification.death_script CASEFILE`, which prints the
script: what kills a worker must not come near the process that reports.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

from frostproof.approaches.approach import Approaches
from frostproof.counterexamples.execution import started, verdict
from frostproof.counterexamples.script import training
from frostproof.errors import FrostproofError, UnprintableError
from frostproof.process.fence import fenced
from frostproof.spec.casefile import CRASHED, CaseFile, load
from frostproof.spec.subject import Subject
from frostproof.training.source import WIDTH
from frostproof.verification.replay import probed

HUNG = 45
"""Seconds after which a training hangs: the longest takes a few."""

LAUNCHER = f"""import signal
import subprocess
import sys

if sys.argv[1:] != ["train"]:
    try:
        done = subprocess.run([sys.executable, __file__, "train"], stderr=subprocess.PIPE, timeout={HUNG})
    except subprocess.TimeoutExpired:
        sys.exit("crashed: the training hung for {HUNG} s")
    sys.stderr.write(done.stderr.decode(errors="replace"))
    if done.returncode < 0:
        sys.exit(f"crashed: the training ended with {{signal.Signals(-done.returncode).name}}")
    if done.returncode == 1 and b"Traceback (most recent call last):" in done.stderr:
        sys.exit("the training raised an exception, which ends no process that catches it")
    if done.returncode:
        sys.exit(f"crashed: the training exited with code {{done.returncode}}")
    sys.exit()
"""


def found(saved: CaseFile, folder: Path) -> str | None:
    """The first script, of one role after the other, in which a new process dies, run from `folder`; None where none does."""
    subject, ways = probed(saved), Approaches()
    for role in ways.roles_for(saved.case):
        try:
            with fenced(saved.device):
                text = launched(training(saved.case, subject, role, saved.device, ways), subject)
        except UnprintableError:
            continue
        if shows(text, folder):
            return text
    return None


def launched(text: str, subject: Subject) -> str:
    """The script of a training, behind what runs it in a process of its own."""
    lines = [
        line for line in text.splitlines(keepends=True) if line != "import sys\n"
    ]  # which the launcher has
    while lines and lines[0].startswith("#"):  # says what is asserted, and here nothing is
        lines.pop(0)
    return "\n".join([*_header(subject), "", LAUNCHER, ""]) + "".join(lines).lstrip("\n")


def shows(text: str, folder: Path) -> bool:
    """Whether the script tells of a death."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "death.py"
        path.write_text(text, encoding="utf-8")
        try:
            code, errors = started(path, folder, [str(folder), *filter(None, sys.path)], HUNG + 15)
        except subprocess.TimeoutExpired:
            return False
    return verdict(code, errors, CRASHED).reproduced


def _header(subject: Subject) -> Iterator[str]:
    version = f" {subject.version}" if subject.version else ""
    text = f"crashed: training must not end its process. Exits 1 while {subject.name}{version} ends it or hangs, and 0 once it does not."
    yield from textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def main(path: str) -> int:
    try:
        with redirect_stdout(sys.stderr):  # whatever an optimizer prints as it is tried
            text = found(load(Path(path)), Path.cwd())
    except FrostproofError as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.write(text or "")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
