"""The README and the tutorial show what their commands print.

A fence without a language shows what the last command above it prints, and `...` stands for lines
left out. If the paragraph above a fence of Python names a file, the fence is that file: it is saved
where the paragraph says so, and was written by a command otherwise. A diff changes a saved file.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.consumer import ROOT, run
from tests.helpers.warm import frostproof, python_m_pytest

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"^    ((?:frostproof|python) .*)$", re.M)
FILE = re.compile(r"`([\w./-]+\.py)`:\s*\Z")
TUTORIAL = ROOT / "docs" / "tutorial.md"


def fences(page: Path) -> Iterator[tuple[str, str, str]]:
    """For each fence of a page the text above it, its language and its content."""
    above, end = page.read_text(encoding="utf-8"), 0
    for found in FENCE.finditer(above):
        yield above[end : found.start()], found[1], found[2]
        end = found.end()


def words(command: str) -> list[str]:
    """What to run for a command as a page shows it."""
    given = shlex.split(command)
    if given[0] == "frostproof":
        return frostproof(*given[1:])
    if given[1:3] == ["-m", "pytest"]:
        return python_m_pytest(*given[3:])
    return [sys.executable, *given[1:]]


def without_counts(line: str) -> str:
    """The line without numbers that another version of a library may change."""
    if line.startswith(("WRONG", "    ")) and "trials" not in line:
        return line
    return re.sub(r"[\d.,]*\d", "N", line)


def assert_printed(shown: str, printed: str) -> None:
    """Each part between two lines of `...` was printed, in this order."""
    rest = "\n".join(["", *map(without_counts, printed.splitlines()), ""])
    for part in re.split(r"^\.\.\.\n", shown, flags=re.M):
        lines = "\n".join(["", *map(without_counts, part.splitlines()), ""])
        assert lines in rest, f"{part}\nis not in\n{printed}"
        rest = "\n" + rest.partition(lines)[2]


def test_a_line_that_was_not_printed_or_stands_elsewhere_is_refused() -> None:
    assert_printed("one\n...\nthree\n", "one\ntwo\nthree\n")
    for shown in ("one\nthree\n", "three\n...\none\n", "two\n...\nfour\n", "tw\n"):
        with pytest.raises(AssertionError, match="is not in"):
            assert_printed(shown, "one\ntwo\nthree\n")


def follow(page: Path, folder: Path) -> None:
    """Do in a folder what the page says, and compare what it shows."""
    command, saved = "", folder
    for above, language, content in fences(page):
        command = [command, *COMMAND.findall(above)][-1]
        named = FILE.search(above)
        if language == "":
            done = run(folder, words(command))
            assert_printed(content, done.stdout + done.stderr)
        elif language == "python" and named and " save " in above[above.rindex("\n\n", 0, -2) :]:
            saved = folder / named[1]
            saved.parent.mkdir(exist_ok=True)
            saved.write_text(content, encoding="utf-8")
        elif language == "python" and named:
            assert (folder / named[1]).read_text(encoding="utf-8") == content
        elif language == "diff":
            old, new = (re.sub(rf"^\{sign}.*\n|^.", "", content, flags=re.M) for sign in "+-")
            source = saved.read_text(encoding="utf-8")
            assert source.count(old) == 1
            saved.write_text(source.replace(old, new), encoding="utf-8")


def test_the_tutorial_shows_what_its_commands_print(tmp_path: Path) -> None:
    follow(TUTORIAL, tmp_path)


def test_the_readme_shows_what_its_command_prints(tmp_path: Path) -> None:
    lion = next(content for _, language, content in fences(TUTORIAL) if language == "python")
    (tmp_path / "mylib").mkdir()
    (tmp_path / "mylib" / "optim.py").write_text(lion)
    follow(ROOT / "README.md", tmp_path)
