"""The command and the plugin in the project of an author, who has installed the wheel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from frostproof.counterexamples.execution import reproduces
from frostproof.doors.command.check import zoo_targets
from frostproof.doors.command.main import main
from frostproof.invariants.registry import INVARIANTS
from frostproof.optimizers import zoo
from tests.helpers import warm
from tests.helpers.consumer import Consumer, environment, leaky, run, wheel

LION = """
import os
import torch
from torch.optim import Optimizer


class Lion(Optimizer):
    def __init__(self, params, lr=0.1, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.sub_(p.grad.sign() * group["lr"])
        return loss
"""
LION += leaky("Lion")
LION += """

class Dies(Lion):
    def step(self, closure=None):
        os._exit(7)


class Hangs(Lion):
    def step(self, closure=None):
        while True:
            pass


class Loud(Lion):
    def step(self, closure=None):
        print("x" * 10000)
        return super().step(closure)


class Distilled(Lion):
    def __init__(self, params, teacher):
        teacher.eval()
        super().__init__(params)


class Raises(Lion):
    def step(self, closure=None):
        raise ValueError("always\\nraises")


class Nonsense(Lion):
    def step(self, closure=None):
        super().step(closure)
        return "nonsense" if closure is not None else object()
"""


@pytest.fixture(scope="session")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> Consumer:
    work = tmp_path_factory.mktemp("consumer")
    scripts = environment(work / "env", wheel(work / "dist"))
    project = work / "project"
    for name in ("harness", "properties"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text(
            "raise ImportError('the consumer owns this name')\n"
        )
    (project / "mylib.py").write_text(LION)
    (project / "setup.cfg").write_text("[tool:pytest]\naddopts = -ra\npython_files = check_*.py\n")
    return Consumer(project, scripts)


FILES = ("--json", "results.json", "--markdown", "summary.md", "--html", "page.html")


def test_a_correct_optimizer_holds_and_a_leaky_one_does_not(consumer: Consumer) -> None:
    done = consumer.check("mylib:Lion", "mylib:Leaky", "mylib:Loud", "mylib:Nonsense", *FILES)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = consumer.results("results.json")
    assert {
        target: row["status"] for target, row in rows.items() if target.startswith("mylib")
    } == {
        "mylib:Lion": "held",
        "mylib:Loud": "held",
        "mylib:Leaky": "violated",
        "mylib:Nonsense": "violated",
    }
    leaky = {row["id"]: row for row in rows["mylib:Leaky"]["invariants"]}  # type: ignore[attr-defined]
    assert leaky["frozen-weights-unchanged"]["status"] == "violated"
    saved = json.loads((consumer.folder / leaky["frozen-weights-unchanged"]["case"]).read_text())
    assert saved["format"] == "frostproof-case"
    assert len(saved["case"]["architecture"]["layers"]) == 1
    script = consumer.folder / leaky["frozen-weights-unchanged"]["reproducer"]
    assert script.with_suffix(".json").name == Path(leaky["frozen-weights-unchanged"]["case"]).name
    shown = reproduces(script, "frozen-weights-unchanged", consumer.folder)
    assert shown.reproduced, shown.said
    (consumer.folder / "mended").mkdir()
    (consumer.folder / "mended" / "mylib.py").write_text(LION + "\n\nLeaky = Lion\n")
    assert (
        reproduces(script, "frozen-weights-unchanged", consumer.folder / "mended").said
        == "it exits 0"
    )
    judged = cast(list[dict[str, Any]], rows["mylib:Nonsense"]["invariants"])
    nonsense = {row["id"] for row in judged if row["status"] == "violated"}
    assert nonsense == {"closure-is-honoured"}
    assert "frozen-weights-unchanged" in (consumer.folder / "summary.md").read_text()
    for said in (
        "profile dev",
        "seed",
        "dtypes",
        "trials/s",
        "WRONG mylib:Leaky on cpu: frozen-weights-unchanged",
    ):
        assert said in done.stdout
    assert "Traceback" not in done.stdout
    assert "nn.Linear(" in done.stdout
    lines = done.stdout.splitlines()
    refused = run(consumer.folder, warm.frostproof("replay", str(script)))
    assert refused.returncode == 2
    assert f"is a script, to run with Python: replay '{script.with_suffix('.json')}'" in (
        refused.stderr
    )
    assert "\r" not in done.stdout
    assert lines[-1].startswith("frostproof replay frostproof-cases")
    html = (consumer.folder / "page.html").read_text()
    found = [cast(list[dict[str, Any]], row["invariants"]) for row in rows.values()]
    cases = [each for invariants in found for each in invariants if each["case"]]
    assert html.count('<svg class="network"') == len(cases)
    _replays_until_it_is_mended(consumer, str(leaky["frozen-weights-unchanged"]["case"]), lines[-1])
    merged = consumer.run(
        "frostproof",
        "report",
        "results.json",
        "--html",
        "merged.html",
        "--baseline",
        "results.json",
    )
    assert merged.returncode == 0, merged.stderr
    assert (consumer.folder / "merged.html").read_text().count(
        '<svg class="network"'
    ) == html.count('<svg class="network"')
    names = sorted(["Lion", "Leaky", "Loud", "Nonsense"])
    header = next(i for i, line in enumerate(lines) if line.split() == ["mylib:", *names])
    assert lines[header + 1].startswith("frozen-weights-unchanged  X")
    assert max(map(len, lines[header : header + 20])) <= 80


def _replays_until_it_is_mended(consumer: Consumer, case: str, last_words: str) -> None:
    again = consumer.run(*last_words.split())
    assert (again.returncode, again.stdout.split(" ")[0]) == (1, "STILL"), again.stderr
    (consumer.folder / "mylib.py").write_text(LION.replace("p.mul_(0.9)", "pass"))
    again = consumer.run("frostproof", "replay", case)
    (consumer.folder / "mylib.py").write_text(LION)
    assert (again.returncode, again.stdout.split(" ")[0]) == (0, "FIXED"), again.stderr


def test_one_that_dies_or_hangs_costs_its_own_verdict(consumer: Consumer) -> None:
    done = consumer.check(
        "mylib:Dies",
        "mylib:Hangs",
        "mylib:Lion",
        "mylib:Raises",
        "--json",
        "mean.json",
        "--",
        "--frostproof-timeout",
        "15",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    status = {target: row["status"] for target, row in consumer.results("mean.json").items()}
    assert status["mylib:Lion"] == "held"
    assert status["mylib:Dies"] == status["mylib:Hangs"] == "crashed"
    assert status["mylib:Raises"] == "unusable"


def test_the_library_in_the_current_folder_is_verified_not_an_installed_copy(
    consumer: Consumer,
) -> None:
    installed = next(consumer.scripts.parent.glob("lib/**/site-packages"))
    (installed / "stale.py").write_text(LION)
    (consumer.folder / "stale.py").write_text(LION.replace("return loss", "return None"))
    try:
        done = consumer.check("stale:Lion", "--seed", "1")
        assert done.returncode == 1, done.stdout + done.stderr
        assert f"stale is {consumer.folder / 'stale.py'}" in done.stdout
    finally:
        (installed / "stale.py").unlink()
        (consumer.folder / "stale.py").unlink()


def test_what_cannot_be_judged_at_all_is_exit_code_5(consumer: Consumer) -> None:
    done = consumer.check("mylib:Raises", "--jobs", "0", "--json", "raises.json")
    assert done.returncode == 5
    assert (
        consumer.results("raises.json")["mylib:Raises"]["reason"]
        == "cannot step with nothing frozen: ValueError: always raises"
    )
    done = consumer.check("mylib:Distilled", "--jobs", "0", "--json", "distilled.json")
    assert done.returncode == 5
    reason = "needs teacher: register a Subject (see docs/subjects.md)"
    assert consumer.results("distilled.json")["mylib:Distilled"]["reason"] == reason


def test_a_strict_run_asks_for_each_optimizer_of_a_module(consumer: Consumer) -> None:
    lines = "import mylib", "class Lion(mylib.Lion): ...", "class Raises(mylib.Raises): ..."
    (consumer.folder / "halves.py").write_text("\n".join(lines))
    given = "halves:*", "--jobs", "0", "--max-examples", "5", "--seed", "1"
    assert consumer.check(*given).returncode == 0
    done = consumer.check(*given, "--strict")
    assert done.returncode == 5, done.stdout
    assert "frostproof: nothing was judged of " in done.stdout
    assert "Raises: exit code 5" in done.stdout


def test_a_library_of_the_zoo_that_cannot_be_imported_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "zoo_broken.py").write_text(
        "print('hello')\nraise RuntimeError('no kernel\\nhere')\n"
    )
    (tmp_path / "zoo_sound.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(zoo, "LIBRARIES", {"zoo_broken": "zoo_broken", "zoo_sound": "zoo_sound"})
    monkeypatch.setattr(zoo, "OTHERS", ())
    assert zoo_targets() == ["zoo_sound:*"]
    said = "frostproof: left out: importing zoo_broken raises RuntimeError: no kernel\n"
    assert capsys.readouterr().err == said


def test_what_click_refuses_is_one_line_that_names_the_page_to_read() -> None:
    refused = CliRunner().invoke(main, ["list"], prog_name="frostproof")
    assert refused.exit_code == 2
    assert refused.output.count("\n") == 1
    assert refused.output.endswith("; see frostproof list --help\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check"], "TARGET"),
        (["check", "--", "-q"], "no target"),
        (["check", "nowhere:Lion"], "unknown module"),
        (["check", "mylib:Lino"], "Did you mean Lion?"),
        (["check", "mylib:Lion", "--device", "cuda:77"], "absent"),
        (["check", "mylib:Lion", "--max-examples", "-3"], "at least 1"),
        (["check", "mylib:Lion", "--max-examples", "0"], "at least 1"),
        (["check", "mylib:Lion", "--timeout", "0"], "at least 1"),
        (["check", "mylib:Lion", "--shards", "0"], "from 1 to"),
        (["check", "mylib:Lion", "--max-examples", "many"], "integer"),
        (["check", "mylib:Lion", "--profile", "weekly"], "nightly"),
        (["check", "mylib:Lion", "--jobs", "some"], "auto or a number"),
        (["check", "mylib:Lion", "--json", "no/such/folder/x.json"], "make its folder first"),
        (["check", "mylib:Lion", "--html", "no/such/folder/x.html"], "make its folder first"),
        (["check", "mylib:Lion", "--html", "."], "name a file"),
        (["check", "mylib:Lion", "--html", "a", "--json", "a"], "give each a file"),
        (["check", "mylib:Lion", "--cases", "mylib.py"], "name a folder"),
        (["replay"], "FILE"),
        (["replay", "none.json"], "name a case file"),
        (["replay", "mylib.py"], "not a case file"),
        (["report"], "RESULTS"),
        (["report", "mylib.py"], "not a results file"),
        (["list", "everything"], "optimizers"),
        (["cheque"], "cheque"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    consumer: Consumer, arguments: list[str], says: str
) -> None:
    done = run(consumer.folder, warm.frostproof(*arguments))
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert done.returncode == 2
    assert len(lines) == 1
    assert says in lines[0]


def test_the_same_run_through_pytest_from_beside_folders_of_our_names(consumer: Consumer) -> None:
    pyargs = [
        "python",
        "-m",
        "pytest",
        "-q",
        "-o",
        "python_files=test_*.py",
        "--pyargs",
        "frostproof_properties",
    ]
    options = [
        "--frostproof-optimizer",
        "mylib:Lion",
        "--frostproof-device",
        "cpu",
        "--frostproof-max-examples",
        "10",
    ]
    for jobs in ("0", "2"):
        done = consumer.run(*pyargs, *options, "-n", jobs)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "mylib:Lion" in done.stdout
    done = consumer.run(*pyargs, "--frostproof-optimizer", "mylib:Lino", "-n", "2")
    assert done.returncode == 4
    assert "Did you mean Lion?" in done.stderr


def test_a_project_that_does_without_xdist_can_be_verified(consumer: Consumer) -> None:
    options = ("--jobs", "0", "--max-examples", "2", "--", "-o", "addopts=-p no:xdist")
    assert consumer.check("mylib:Lion", *options).returncode == 0
    assert consumer.check("mylib:Lion", *options[:-2], "-p", "no:xdist").returncode == 0


def test_lists(consumer: Consumer) -> None:
    invariants = consumer.run("frostproof", "list", "invariants")
    assert invariants.stdout.splitlines()[0].startswith("frozen-weights-unchanged")
    assert len(invariants.stdout.splitlines()) == len(INVARIANTS)
    optimizers = consumer.run("frostproof", "list", "optimizers").stdout
    assert all(name in optimizers for name in ("SGD", "AdamW", "LBFGS", "Muon", "SparseAdam"))
    assert consumer.run("frostproof", "list", "devices").stdout.splitlines()[0] == "cpu"


def test_the_same_seed_repeats_the_same_run(consumer: Consumer) -> None:
    counts = []
    for name in ("one.json", "two.json"):
        done = consumer.check("mylib:Lion", "--seed", "0", "--jobs", "0", "--json", name)
        assert "seed 0" in done.stdout
        row = consumer.results(name)["mylib:Lion"]
        counts.append([(each["id"], each["judged"]) for each in row["invariants"]])  # type: ignore[attr-defined]
    assert counts[0] == counts[1]


def test_verbose_shows_all_that_hypothesis_says(consumer: Consumer) -> None:
    done = consumer.check("mylib:Leaky", "--jobs", "0", "--", "-vv")
    assert done.returncode == 1
    assert "Traceback" in done.stdout
    assert "The smallest case: Case(" in done.stdout or "Draw 1 (case): Case(" in done.stdout
    quiet = consumer.check("mylib:Leaky", "--jobs", "0", "-v")
    assert "mylib:Leaky on cpu: takes parameters" in quiet.stdout
    assert "FAILURES" not in quiet.stdout


@pytest.mark.parametrize(
    ("given", "loudness"),
    [([], "-q"), (["-v"], "-v"), (["--", "-v"], "-v"), (["--", "-vv"], "-vv")],
)
def test_verbose_is_not_taken_back(
    monkeypatch: pytest.MonkeyPatch, given: list[str], loudness: str
) -> None:
    asked: list[str] = []

    def run(arguments: list[str], plugins: list[object]) -> int:
        asked.extend(arguments)
        return 0

    monkeypatch.setattr("pytest.main", run)
    CliRunner().invoke(main, ["check", "mylib:Leaky", *given], obj=["check", "mylib:Leaky", *given])
    assert [each for each in asked if each in ("-q", "-v", "-vv")] == [loudness]
