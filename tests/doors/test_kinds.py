"""What an author reads about an optimizer of an unusual kind."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.consumer import check

MYLIB = """
from frostproof import Subject
from tests.helpers.protocols import *

CAPTURED = Subject("mylib:CAPTURED", OnlyCapturable, arguments={"capturable": True})
"""


def said(folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and the output of `frostproof check` for optimizers of mylib."""
    (folder / "mylib.py").write_text(MYLIB, encoding="utf-8")
    root = str(Path(__file__).parents[2])
    done = check(folder, "--jobs", "0", "--max-examples", "5", *arguments, PYTHONPATH=root)
    return done.returncode, done.stdout


def test_a_run_with_nothing_to_run_says_why(tmp_path: Path) -> None:
    code, text = said(tmp_path, "mylib:CAPTURED")
    assert code == 5
    assert (
        "frostproof: mylib:CAPTURED: nothing to run, because this implementation is verified on "
        "accelerators only, and the devices are cpu: name another device" in text.splitlines()
    )
