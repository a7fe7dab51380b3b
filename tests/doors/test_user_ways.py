"""`check --way`: a user's own way to freeze, beside A and B in the trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostproof.approaches.approach import Approaches, OptimizerSubset
from frostproof.approaches.helper import load_way
from frostproof.doors.python import check_optimizer
from frostproof.optimizers.discovery import subjects
from frostproof.process.fence import fenced
from frostproof.spec.casefile import load_case
from frostproof.training.trying import model_under_test
from frostproof.verification.reproduction import reproductions
from frostproof.verification.search import search_violations
from frostproof.verification.verification import Verification
from tests.helpers import consumer, warm, ways
from tests.helpers.broken import Sound
from tests.helpers.search import flagged, search

HERE = "tests.helpers.ways"
ROOT = str(Path(__file__).parents[2])


def verification_of(name: str, **given: object) -> Verification:
    (subject,) = subjects(Sound)
    approaches = Approaches(way=load_way(f"{HERE}:{name}"))
    return Verification(subject, "cpu", approaches=approaches, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ways.CORRECT)
def test_a_correct_helper_is_not_flagged(name: str) -> None:
    verification = verification_of(name)
    search(verification, seed=0, examples=60)
    assert flagged(verification) == {}
    assert verification.rejected_cases == 0


@pytest.mark.parametrize("name", ways.WRONG)
def test_a_wrong_helper_is_told_with_a_script(name: str, tmp_path: Path) -> None:
    verification = verification_of(name)
    search(verification, seed=1, examples=40)
    found = reproductions(verification, tmp_path)
    assert found
    assert all(each.text and not each.doubtful for each in found.values()), found
    texts = [each.text for each in found.values() if each.text and f"import {name}" in each.text]
    assert texts
    assert all("frostproof" not in text for text in texts)


@pytest.mark.parametrize("meant", [False, True])
def test_settings_of_its_own_are_named_unless_they_are_meant(
    meant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways.AddsWithOtherSettings, "own_settings", meant, raising=False)
    verification = verification_of("AddsWithOtherSettings")
    search(verification, seed=1, examples=60)
    found = flagged(verification)
    assert (
        meant
        or "your way trains unlike A (it gave what thaws other settings: lr) at event"
        in (found["trainable-updates-match"])
    )
    assert not (meant and found)


def test_the_line_at_fault_is_that_of_the_helper(tmp_path: Path) -> None:
    verification = verification_of("freeze_and_leave")
    search(verification, seed=1, examples=40)
    reproductions(verification, tmp_path)
    source = verification.tallies["freeze-midway-holds"].source
    assert "ways.py:" in source
    assert "in freeze_and_leave(): def freeze_and_leave(" in source


def test_a_helper_is_judged_on_a_model_of_ones_own() -> None:
    model = model_under_test("tests.helpers.user_models:ResNet", ["layer1"], "2,3,6,6")
    verification = verification_of("freeze_without_biases_of_norms", model=model)
    with fenced("cpu"):
        verification.prepare()
        search_violations(verification, 20, 1)
    message = flagged(verification)["frozen-weights-unchanged"]
    assert "freeze_without_biases_of_norms left requires_grad=True" in message
    assert ".bias" in message


def test_an_approach_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(load_way(f"{HERE}:Mine"), ways.Mine)
    monkeypatch.setattr(ways, "SUBSET", OptimizerSubset(), raising=False)
    assert load_way(f"{HERE}:SUBSET") == OptimizerSubset()


def test_the_command_writes_a_case_that_replays(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from tests.helpers.broken import Sound\nfrom tests.helpers.ways import freeze_modules\n"
    )
    options = ("--max-examples", "10", "--seed", "1", "--jobs", "0")
    way = ("mine:Sound", "--way", "mine:freeze_modules")
    done = consumer.check(tmp_path, *way, *options, PYTHONPATH=ROOT)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "your way freeze_modules left requires_grad=True on a parameter" in done.stdout
    path = next((tmp_path / "frostproof-cases").glob("*frozen-weights-unchanged.json"))
    words = warm.frostproof("replay", str(path))
    again = consumer.run(tmp_path, words, PYTHONPATH=ROOT)
    assert again.returncode == 1, again.stdout + again.stderr
    assert "STILL VIOLATED" in again.stdout
    copy = "from tests.helpers.ways import freeze\n"
    (tmp_path / "copied.py").write_text(copy)
    mended = consumer.run(tmp_path, [*words, "--way", "copied:freeze"], PYTHONPATH=ROOT)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    (tmp_path / "mine.py").write_text(
        "from tests.helpers.broken import Sound\n"
        "from tests.helpers.ways import freeze as freeze_modules\n"
    )
    mended = consumer.run(tmp_path, words, PYTHONPATH=ROOT)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "FIXED" in mended.stdout


def test_python_takes_the_way_as_a_function(tmp_path: Path) -> None:
    options = {"max_examples": 10, "devices": ["cpu"], "seed": 1, "cases": tmp_path}
    report = check_optimizer(Sound, way=ways.freeze_modules, **options)  # type: ignore[arg-type]
    found = {row.id: row for row in report.rows[0].invariants}["frozen-weights-unchanged"]
    assert "your way freeze_modules left requires_grad=True" in str(found.message)
    assert load_case(Path(str(found.case))).way == f"{HERE}:freeze_modules"
    assert check_optimizer(Sound, way=f"{HERE}:AddsGroups", **options).ok  # type: ignore[arg-type]


DEADLY = """
import os
import signal

from tests.helpers.broken import Sound


def freeze(model, names):
    if names:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_case_of_a_way_that_ends_the_process_replays(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(DEADLY)
    options = ("--max-examples", "10", "--seed", "1", "--jobs", "1")
    way = ("mine:Sound", "--way", "mine:freeze")
    done = consumer.check(tmp_path, *way, *options, PYTHONPATH=ROOT)
    assert done.returncode == 1, done.stdout + done.stderr
    (path,) = (tmp_path / "frostproof-cases").glob("*crashed.json")
    assert load_case(path).way == "mine:freeze"
    assert "from mine import freeze" in path.with_suffix(".py").read_text()
    words = warm.frostproof("replay", str(path))
    again = consumer.run(tmp_path, words, PYTHONPATH=ROOT)
    assert again.returncode == 1, again.stdout + again.stderr
    assert "ended with SIGKILL" in again.stdout


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (f"{HERE}:freeze_one", "takes 1 argument: it must be freeze(model, names)"),
        (f"{HERE}:freeze_four", "takes 4 arguments"),
        (f"{HERE}:NotAWay", "is not a way to freeze: give a function freeze(model, names)"),
        (f"{HERE}:NeedsArguments", "it must be built without arguments"),
        (f"{HERE}:WRONG", "is not a way to freeze"),
        (f"{HERE}:freeeze", "Did you mean freeze?"),
        ("nowhere", "malformed way 'nowhere'"),
        ("nowhere:freeze", "unknown module 'nowhere'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(way: str, said: str, tmp_path: Path) -> None:
    done = consumer.check(tmp_path, "torch.optim:SGD", "--way", way, PYTHONPATH=ROOT)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert said in lines[0]
