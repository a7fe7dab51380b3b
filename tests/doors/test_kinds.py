"""What an author reads about an optimizer of an unusual kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from torch import nn

from frostproof.doors.command.main import main
from frostproof.optimizers.probe import probe
from frostproof.process.fence import fenced
from frostproof.spec.subject import Subject
from tests.helpers.consumer import check
from tests.helpers.kinds import Distilled

MYLIB = """
from frostproof import Subject
from tests.helpers.protocols import *

class SavesNothing(Plain):
    def state_dict(self):
        raise NotImplementedError("no state_dict")


class OneGroup(Plain):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        if len(self.param_groups) > 1:
            raise ValueError("one group only")


class Averages(Plain):
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                1 / p.numel()
        return super().step(closure)


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


def explained(target: str) -> str:
    result = CliRunner().invoke(main, ["explain", target])
    assert result.exit_code == 0, result.output
    return result.output


def pasted(text: str) -> Subject:
    """The Subject that the text ends with, once it is executed."""
    names: dict[str, Any] = {}
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(("from ", "import ")))
    exec("\n".join(lines[first:]), names)
    (found,) = (each for each in names.values() if isinstance(each, Subject))
    return found


def test_what_is_not_judged_is_explained_with_a_subject_to_fill_in() -> None:
    text = explained("tests.helpers.kinds:Distilled")
    assert "is not judged: needs teacher" in text
    assert """arguments={"teacher": 0.1}: cannot be built: AttributeError: 'float'""" in text
    blank = pasted(text)
    assert blank.arguments == {"teacher": ...}
    filled = pasted(
        text.replace('"teacher": ...', '"teacher": __import__("torch").nn.Linear(2, 2)')
    )
    assert filled.factory is Distilled
    assert isinstance(filled.arguments["teacher"], nn.Linear)
    with fenced("cpu"):
        assert probe(filled, "cpu").parameters == "any"


def test_what_cannot_step_is_explained_with_the_fields_that_may_be_wrong() -> None:
    text = explained("tests.helpers.kinds:NeedsCalls")
    assert "other ways: cannot step with nothing frozen: RuntimeError: call begin() first" in text
    assert '    closure="optional",  # never, optional, required, with-arguments, after-' in text
    assert pasted(text).closure == "optional"


@pytest.mark.parametrize("name", ["ByKeyword", "OfModel", "CallsBackward", "Guessed"])
def test_what_is_judged_is_explained_with_the_subject_that_was_found(name: str) -> None:
    text = explained(f"tests.helpers.kinds:{name}")
    assert text.startswith(f"tests.helpers.kinds:{name} on cpu: takes ")
    stated = pasted(text)
    with fenced("cpu"):
        found = probe(stated, "cpu")
    for field in ("takes", "lists", "arguments", "closure", "backward", "parameters", "unable"):
        assert getattr(found, field) == getattr(stated, field), field


def test_a_run_says_how_to_find_out_more(tmp_path: Path) -> None:
    code, text = said(tmp_path, "tests.helpers.kinds:Distilled")
    assert code == 5
    assert "not judged on cpu: Distilled: needs teacher" in text
    assert "a Subject to fill in: frostproof explain tests.helpers.kinds:Distilled\n" in text


def test_what_fails_with_nothing_frozen_is_said_and_not_left_out_in_silence(tmp_path: Path) -> None:
    code, text = said(tmp_path, "mylib:SavesNothing", "mylib:OneGroup", "mylib:Averages")
    assert code == 0
    saving = "saving fails with nothing frozen: NotImplementedError: no state_dict"
    groups = "several groups fail with nothing frozen: it cannot be built: ValueError: one group"
    assert f"not tried on cpu: SavesNothing: {saving}\n" in text
    assert f"not tried on cpu: OneGroup: {groups} only\n" in text
    elements = "a parameter without elements fails with nothing frozen: it cannot step: "
    assert f"not tried on cpu: Averages: {elements}ZeroDivisionError: division by zero\n" in text
    rows = json.loads((tmp_path / "out.json").read_text())["subjects"]
    facts = {row["target"]: row["facts"] for row in rows}
    assert facts["mylib:SavesNothing"]["not-tried"] == [saving]
    assert facts["mylib:OneGroup"]["not-tried"] == [f"{groups} only"]
