"""The note of a process that died is the last that it wrote in whole, or none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from frostproof.process.case_notes import MAX_NOTE_BYTES, CaseNotes, read_note

NODE = "test_optimizers.py::test_optimizer[mylib:Größe-default@cpu]"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gw0"


def test_the_last_note_is_read_though_one_before_was_longer(path: Path) -> None:
    notes = CaseNotes(path)
    for case in (b"x" * 5000, b"", b"{}"):
        notes.write(NODE, case)
        assert read_note(path) == (NODE, case)
    notes.clear()
    assert read_note(path) is None


def test_what_is_cut_short_anywhere_is_no_note(path: Path) -> None:
    CaseNotes(path).write(NODE, b'{"seed": 1}')
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert read_note(path) is None


def test_the_start_of_one_note_over_another_is_no_note(path: Path) -> None:
    notes = CaseNotes(path)
    notes.write(NODE, b"b" * 64)
    new = path.read_bytes()
    notes.write(NODE, b"a" * 64)
    old = path.read_bytes()
    for length in range(1, len(new)):
        path.write_bytes(new[:length] + old[length:])
        assert read_note(path) in (None, (NODE, b"a" * 64))


def test_no_file_a_folder_and_one_that_is_too_large_hold_no_note(path: Path) -> None:
    assert read_note(path) is None
    assert read_note(path.parent) is None
    CaseNotes(path).write(NODE, b"x" * MAX_NOTE_BYTES)
    assert read_note(path) is None


def test_a_note_costs_less_than_any_trial(path: Path) -> None:
    notes, case = CaseNotes(path), b"x" * 2000
    started = time.perf_counter()
    for _ in range(1000):
        notes.write(NODE, case)
    assert time.perf_counter() - started < 0.5
