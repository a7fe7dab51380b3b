"""A death leaves a case; looking for its script can neither harm the run nor outlive it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from frostproof.optimizers.targets import resolve
from frostproof.process.case_notes import CaseNotes
from frostproof.results.rows import RowKey, SubjectRow
from frostproof.spec.casefile import CRASHED, CaseFile, load_case
from frostproof.verification import death_script as death
from frostproof.verification import replay as replaying
from frostproof.verification.deaths import SEARCHES_AT_ONCE, Deaths, Search
from frostproof.verification.replay import ending, replay

OLD = load_case(Path(__file__).parents[1] / "spec" / "cases" / "version-1.json")
NODE = "test_optimizers.py::test_optimizer[mylib:Dies-default@cpu]"
DIES = """
import os, time
from torch.optim import SGD

class Dies(SGD):
    def step(self, closure=None):
        {}
"""
DECAYS = (
    "[p.data.mul_(0.9) for group in self.param_groups for p in group['params']]; "
    "return super().step(closure)"
)


def row() -> SubjectRow:
    return SubjectRow(
        "mylib:Dies",
        "default",
        "cpu",
        "",
        "crashed",
        "the worker process died twice",
        0,
        0,
        0.0,
        {},
        [],
    )


def searching(deaths: Deaths, program: str) -> Search:
    """A search of which nothing is real but its process."""
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    found = msgspec.structs.replace(OLD, invariant=CRASHED)
    deaths.searches[row().key] = Search(
        process, time.monotonic(), deaths.notes_folder / "script", found
    )
    return deaths.searches[row().key]


@pytest.fixture
def deaths(tmp_path: Path) -> Deaths:
    return Deaths(tmp_path / "cases", tmp_path, warn=lambda text: None, timeout=300)


def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> CaseFile:
    """A case of a death for an optimizer whose step is `body`."""
    name = f"dies_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(DIES.format(body))
    monkeypatch.syspath_prepend(tmp_path)
    return msgspec.structs.replace(OLD, target=f"{name}:Dies", variant="forloop", invariant=CRASHED)


def test_a_note_of_another_item_is_none_of_this(deaths: Deaths) -> None:
    CaseNotes(deaths.notes_folder / "gw0").write("another", b"{}")
    deaths.learn("gw0", NODE)
    one = row()
    deaths.save(one, NODE)
    assert (one.case, deaths.searches) == (None, {})
    deaths.close()


def test_what_is_noted_is_saved_as_a_case(deaths: Deaths) -> None:
    CaseNotes(deaths.notes_folder / "gw0").write(NODE, msgspec.json.encode(OLD.case))
    deaths.learn("gw0", NODE)
    deaths.learn("gw1", NODE)  # which noted nothing
    one = row()
    deaths.save(one, NODE)
    folder = deaths.notes_folder
    deaths.close()
    assert not folder.exists()
    found = load_case(Path(str(one.case)))
    assert (found.invariant, found.case, found.message) == (CRASHED, OLD.case, one.reason)


def test_a_search_ends_with_the_run(deaths: Deaths) -> None:
    search = searching(deaths, "import time; time.sleep(600)")
    deaths.close()
    assert search.process.poll() is not None


def test_only_a_few_searches_run_at_once_and_the_others_follow(
    deaths: Deaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(key: RowKey, path: Path, found: CaseFile) -> None:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
        deaths.searches[key] = Search(process, time.monotonic(), path, found)
        most.append(deaths.running)

    most: list[int] = []
    monkeypatch.setattr(deaths, "_search", search)
    note = msgspec.json.encode(OLD.case)
    for number in range(9):
        one = row()
        one.variant, deaths.noted[NODE] = str(number), note
        deaths.save(one, NODE)
    deaths.finish([])
    assert len(deaths.searches) == 9
    assert max(most) == SEARCHES_AT_ONCE
    deaths.close()


@pytest.mark.parametrize(
    ("program", "text"), [("pass", ""), ("raise SystemExit(1)", "print()"), ("pass", None)]
)
def test_a_search_that_fails_costs_the_script_alone(
    deaths: Deaths, program: str, text: str | None
) -> None:
    search = searching(deaths, program)
    if text is not None:
        search.output.write_text(text)
    one = row()
    one.case = "case.json"
    deaths.finish([one])
    assert one.reproducer is None
    deaths.close()


def test_a_script_that_was_found_stands_beside_its_case(deaths: Deaths) -> None:
    searching(deaths, "pass").output.write_text("print()\n")
    one = row()
    one.case = "case.json"
    deaths.finish([one])
    deaths.close()
    assert Path(str(one.reproducer)).read_text() == "print()\n"


def test_a_launcher_stands_before_the_training() -> None:
    text = death.with_launcher(
        "# nothing\n\nimport sys\n\nimport torch\n\ntorch.ones(1)\n",
        resolve(["torch.optim:Adagrad"])[0],
        7,
    )
    assert text.startswith("# crashed: ")
    assert "the training hung for 7 s" in text
    assert text.count("import sys\n") == 1
    assert "nothing\n" not in text
    compile(text, "death.py", "exec")


@pytest.mark.parametrize(
    ("training", "shown"),
    [
        ("import os\nos._exit(3)\n", True),
        ("import os\nos.abort()\n", True),
        ("1 / 0\n", False),
        ("pass\n", False),
        ("import time\ntime.sleep(60)\n", True),
    ],
)
def test_a_script_shows_a_death_and_no_mere_exception(
    tmp_path: Path, training: str, shown: bool
) -> None:
    text = death.with_launcher(training, resolve(["torch.optim:Adagrad"])[0], 3)
    assert death.shows_death(text, tmp_path, 3) is shown


def test_a_process_that_leaves_in_silence_has_not_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replay(saved(tmp_path, monkeypatch, "os._exit(0)"))
    assert found == ("STILL VIOLATED", "the process exited with code 0")


def test_the_time_in_a_trial_is_that_since_its_note(deaths: Deaths) -> None:
    CaseNotes(deaths.notes_folder / "gw0").write(NODE, msgspec.json.encode(OLD.case))
    assert deaths.learn("gw0", NODE) < 30
    before = time.time() - 100
    os.utime(deaths.notes_folder / "gw0", (before, before))
    assert 99 < deaths.learn("gw0", NODE) < 130
    assert deaths.learn("gw1", NODE) == 0
    deaths.close()


def test_a_process_that_hangs_has_not_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "LIMIT", 8.0)
    found = replay(saved(tmp_path, monkeypatch, "time.sleep(600)"))
    assert found == ("STILL VIOLATED", "the process hung for 8 s")


def test_a_process_that_survives_says_what_else_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replay(saved(tmp_path, monkeypatch, DECAYS))
    assert found.outcome == "FIXED"
    assert found.text.startswith("but: frozen-weights-unchanged")


def test_how_a_process_ended() -> None:
    assert ending(3) == "exited with code 3"
    assert ending(-11) == "ended with SIGSEGV"
    assert ending(-1000) == "ended with signal 1000"
