"""However a run ends, its results hold what it judged.

It may be interrupted, run out of time, lose a worker, or meet a full disk.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from frostproof.doors.pytest_plugin.time_budget import TimeBudget, parse_seconds
from frostproof.errors import UsageError
from frostproof.results.files import load_results
from tests.helpers import warm
from tests.helpers.consumer import PLAIN, check, clean, command, run

OWN = """

def frozen(optimizer):
    # No parameter is, while the harness finds out how the optimizer is used.
    return any(not p.requires_grad for group in optimizer.param_groups for p in group["params"])


class Slow(Plain):
    seconds = 0.02

    # Its number is never seen half written.
    def step(self, closure=None):
        Path("slow.new").write_text(str(os.getpid()))
        os.replace("slow.new", "slow.pid")
        if frozen(self):
            Path("slow.trial").touch()
            time.sleep(self.seconds)
        return super().step(closure)


class Slower(Slow):
    # So slow that a run which tries few examples of each still tries this one.
    seconds = 0.06


class Crawls(Slow):
    # So slow that one trial may take longer than an optimizer may, and no event so long as a
    # quarter of that: an optimizer for each parameter takes 45 steps at most.
    seconds = 0.1


class Breaks(Deaf):
    # Breaks at once, so that the run ends while this is being shrunk or written down.
    def step(self, closure=None):
        if frozen(self):
            time.sleep(0.1)
        return super().step(closure)


class Ends(Plain):
    # Ends its process where something that it owns is frozen.
    def step(self, closure=None):
        parameters = [p for group in self.param_groups for p in group["params"]]
        if any(p.grad is None and not p.requires_grad for p in parameters):
            self.end()
        return super().step(closure)


class Faults(Ends):
    def end(self):
        ctypes.string_at(0)


class Exits(Ends):
    def end(self):
        os._exit(3)


class Hangs(Ends):
    def end(self):
        time.sleep(3600)


class ExitsToo(Exits): pass
"""
MYLIB = "import ctypes" + PLAIN + OWN


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "mylib.py").write_text(MYLIB)
    return tmp_path


def check_mounted(project: Path, mount: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `check` where the command `mount` has mounted a file system. Skip if that fails."""

    def mounted(*words: str) -> subprocess.CompletedProcess[str]:
        inside = [
            "unshare",
            "--map-root-user",
            "--mount",
            "bash",
            "-c",
            f'{mount} && exec "$@"',
            "bash",
            *words,
        ]
        return subprocess.run(
            inside,
            cwd=project,
            env=clean(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    if shutil.which("unshare") is None or mounted("true").returncode:
        pytest.skip(
            "no file system of its own can be mounted here: Linux with user namespaces is needed"
        )
    return mounted(*command(*arguments))


@contextmanager
def started(project: Path, arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A run in the background, which ends with the test."""
    with subprocess.Popen(
        arguments,
        cwd=project,
        env=clean(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell's background jobs ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as running:
        try:
            yield running
        except BaseException:
            running.kill()
            print(running.communicate()[0])
            raise


def rows(project: Path) -> dict[str, Any]:
    """Return the rows of the results by target, after `frostproof report` could read them."""
    load_results(project / "out.json")
    return {
        row["target"]: row for row in json.loads((project / "out.json").read_text())["subjects"]
    }


def wait(condition: Callable[[], bool], limit: float = 200) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("signalled", "jobs"), [(signal.SIGTERM, "0"), (signal.SIGTERM, "2"), (signal.SIGINT, "2")]
)
def test_an_interrupted_run_keeps_what_it_judged(
    project: Path, jobs: str, signalled: signal.Signals
) -> None:
    # With other seeds, one of the first trials may take longer than this test waits.
    several = ("mylib:Deaf", "mylib:Slower", "--max-examples", "80", "--seed", "3")
    with started(project, command(*several, "--jobs", jobs)) as running:
        wait(
            lambda: (
                any(project.glob("frostproof-cases/mylib_Deaf*.py"))
                and (project / "slow.trial").exists()
            )
        )
        time.sleep(8)  # a worker tells what it has every 5 seconds, after a trial
        running.send_signal(signalled)
        said, _ = running.communicate(timeout=60)
    assert running.returncode == 130, said
    found = rows(project)
    assert found["mylib:Deaf"]["status"] == "violated"
    slow = found["mylib:Slower"]
    assert slow["status"] == "held", slow
    assert slow["judgements"] > 0
    assert slow["facts"]["cut-short"]
    assert "INTERNALERROR" not in said
    assert "trials/s" in said


def test_a_violation_that_was_not_yet_written_down_is_kept(project: Path) -> None:
    arguments = command("mylib:Breaks", "--max-examples", "5000", "--jobs", "2", "--seed", "1")
    with started(project, arguments) as running:
        wait(lambda: any(project.glob("frostproof-cases/mylib_Breaks*closure-*.json")))
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=60)
    (row,) = rows(project).values()
    broken = {each["id"]: each for each in row["invariants"] if each["status"] == "violated"}
    assert "closure-is-honoured" in broken, said
    assert (project / broken["closure-is-honoured"]["case"]).exists()


def test_a_killed_worker_costs_its_item_a_second_run(project: Path) -> None:
    arguments = command("mylib:Slow", "mylib:Deaf", "--max-examples", "40", "--jobs", "2")
    with started(project, arguments) as running:
        wait((project / "slow.pid").exists)
        time.sleep(6)  # so that something of it is known already, which must not count twice
        os.kill(int((project / "slow.pid").read_text()), signal.SIGKILL)
        said, _ = running.communicate(timeout=240)
    assert running.returncode == 1, said
    found = rows(project)
    assert (found["mylib:Slow"]["status"], found["mylib:Slow"]["trials"]) == ("held", 40), said
    assert "cut-short" not in found["mylib:Slow"]["facts"]
    assert found["mylib:Deaf"]["status"] == "violated"


DEATHS = {
    "mylib:Faults": "crashed: the training ended with SIGSEGV",
    "mylib:Exits": "crashed: the training exited with code 3",
    "mylib:Hangs": "crashed: the training hung for 20 s",
}


def test_a_death_has_a_case_and_a_script(project: Path) -> None:
    temporary = project / "temporary"
    temporary.mkdir()
    targets = (*DEATHS, "mylib:Plain")
    done = check(
        project,
        *targets,
        "--max-examples",
        "15",
        "--jobs",
        "2",
        "--",
        "--frostproof-timeout=10",
        TMPDIR=str(temporary),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found = rows(project)
    assert found["mylib:Plain"]["status"] == "held"
    assert not list(temporary.glob("frostproof-*"))
    for target, said in DEATHS.items():
        row = found[target]
        assert (row["status"], bool(row["case"]), bool(row["reproducer"])) == (
            "crashed",
            True,
            True,
        ), (row, done.stdout)
        assert f"frostproof replay {row['case']}" in done.stdout
        if target == "mylib:Faults":  # of the others, the search has shown it
            assert ran(project, row["reproducer"]) == (1, said)
            assert replayed(project, row["case"]).startswith("STILL VIOLATED")
    (project / "mylib.py").write_text(MYLIB.replace("self.end()", "pass"))
    assert ran(project, found["mylib:Faults"]["reproducer"])[0] == 0
    assert replayed(project, found["mylib:Exits"]["case"]).startswith("FIXED")


CRASHING = [f"mylib:{name}" for name in ("Faults", "Exits", "ExitsToo")]


def test_every_optimizer_gets_its_verdict_however_many_crash(project: Path) -> None:
    """Six workers die here, more than the four that xdist by itself replaces with `-n 1`."""
    targets = (*CRASHING, "mylib:Plain", "mylib:Deaf")
    done = check(project, *targets, "--max-examples", "12", "--seed", "5", "--jobs", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    statuses = {target: row["status"] for target, row in rows(project).items()}
    crashed = dict.fromkeys(CRASHING, "crashed")
    assert statuses == {**crashed, "mylib:Plain": "held", "mylib:Deaf": "violated"}, done.stdout
    assert "xdist: " not in done.stdout


def test_a_limit_of_restarts_that_the_user_gives_is_kept(project: Path) -> None:
    few = ("--max-examples", "10", "--jobs", "1")
    done = check(project, "mylib:Exits", *few, "--", "--max-worker-restart=0")
    assert done.returncode == 1, done.stdout + done.stderr
    row = rows(project)["mylib:Exits"]
    assert (row["status"], row["trials"]) == ("crashed", 0)
    assert row["reason"] == "the worker process died, while it ran this optimizer"


def ran(project: Path, script: str) -> tuple[int, str]:
    """The exit code of a script, and the last line of what it says."""
    environment = clean(PYTHONPATH=str(project))
    done = subprocess.run(
        [sys.executable, script],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return done.returncode, (done.stderr.splitlines() or [""])[-1]


def replayed(project: Path, case: str) -> str:
    """What a replay says of a case."""
    return run(project, warm.frostproof("replay", case)).stdout


def test_a_full_disk_costs_the_cases_alone(project: Path) -> None:
    (project / "cases").mkdir()
    full = "mount -t tmpfs -o size=4k,nr_inodes=2 none cases"
    done = check_mounted(
        project, full, "mylib:Deaf", "mylib:Slow", "--max-examples", "20", "--cases", "cases"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found = rows(project)
    assert (found["mylib:Deaf"]["status"], found["mylib:Slow"]["status"]) == ("violated", "held")
    assert (
        done.stdout.count(
            "frostproof: warning: no case can be written to cases: No space left on device"
        )
        == 1
    )
    assert "Traceback" not in done.stdout


def test_results_that_cannot_be_written_are_one_line_and_the_table_is_there(project: Path) -> None:
    (project / "results").mkdir()
    full = "mount -t tmpfs -o size=4k none results && head -c 4096 /dev/zero > results/old.json"
    done = check_mounted(
        project, full, "mylib:Slow", "--max-examples", "20", "--json", "results/old.json"
    )
    assert done.returncode == 2
    assert done.stdout.count("frostproof: cannot write") == 1
    assert "mylib:Slow" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_time_budget_is_shared_by_all(project: Path) -> None:
    targets = ("mylib:Slow", "mylib:Deaf", "mylib:Plain")
    done = check(
        project, *targets, "--max-examples", "100000", "--time-budget", "12s", "--jobs", "2"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found = rows(project)
    assert found["mylib:Deaf"]["status"] == "violated"
    for target in ("mylib:Slow", "mylib:Plain"):
        assert found[target]["status"] == "held"
        assert found[target]["trials"] >= 10
        assert found[target]["facts"]["cut-short"] == "the time budget was spent"
    assert "at most 12 s" in done.stdout


def test_a_slow_optimizer_is_judged_by_what_its_time_limit_allows(project: Path) -> None:
    options = ("--max-examples", "100000", "--seed", "1", "--jobs", "1")
    done = check(project, "mylib:Crawls", *options, "--", "--frostproof-timeout=24")
    assert done.returncode == 0, done.stdout + done.stderr
    row = rows(project)["mylib:Crawls"]
    assert row["status"] == "held"
    assert 1 <= row["trials"] < 100
    said = "most of its time limit of 24 s was spent"
    assert row["facts"]["cut-short"] == said
    assert f"cut short on cpu: Crawls: {said}" in done.stdout


def test_an_expected_failure_that_the_time_did_not_suffice_for_is_told(project: Path) -> None:
    (project / "stated.py").write_text(
        "import frostproof, mylib\n"
        'STATED = frostproof.Subject("stated:STATED", mylib.Slow, '
        'expected_failures={"thaw-resumes": "of old"})\n'
    )
    options = ("--max-examples", "1000", "--time-budget", "4s", "--jobs", "0")
    done = check(project, "stated:STATED", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    said = "not found: stated:STATED on cpu: thaw-resumes: expected to fail (of old), but not seen"
    assert said in done.stdout
    assert "its search ended: the time budget was spent" in done.stdout


def test_what_an_item_leaves_of_its_time_is_there_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    budget = TimeBudget(60, 1, {"one": 100, "two": 100, "three": 100})
    assert budget.begin("one") == 120
    clock = 105.0
    budget.finish()
    assert budget.begin("two") == 140
    clock = 150.0  # it took more than it had
    budget.finish()
    assert budget.begin("three") == 160


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400)]
)
def test_times(text: str, value: float) -> None:
    assert parse_seconds(text) == value


@pytest.mark.parametrize("text", ["", "2", "0s", "-1h", "2 days", "1h30m"])
def test_what_is_no_time_is_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="give a number and a unit, as 90s, 30m or 2h"):
        parse_seconds(text)


def test_no_worker_is_started_for_an_item_that_does_not_exist(project: Path) -> None:
    few = ("--max-examples", "2", "--jobs", "auto", "-v")
    done = check(project, "mylib:Plain", *few, PYTEST_XDIST_AUTO_NUM_WORKERS="8")
    assert "created: 1/1 worker" in done.stdout, done.stdout
    done = check(project, "mylib:Plain", *few, "--shards", "2", PYTEST_XDIST_AUTO_NUM_WORKERS="8")
    assert "created: 2/2 workers" in done.stdout, done.stdout


def test_a_run_that_ends_at_its_first_failure_is_exit_code_1(project: Path) -> None:
    done = check(project, "mylib:Deaf", "--max-examples", "12", "--seed", "5", "--", "-x")
    assert done.returncode == 1, done.stdout
