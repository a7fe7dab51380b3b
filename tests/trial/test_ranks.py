"""Ranks: processes that train together, are replaced when they die or hang, and leave no trace."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from frostproof.approaches.approach import Approaches
from frostproof.process import ranks
from frostproof.process.fork_server import FORKS, VARIABLE
from frostproof.spec.subject import Subject
from frostproof.trial import ranks as trial_ranks
from frostproof.trial.lockstep import run_trial
from tests.helpers import ranked, warm
from tests.helpers.broken import Sound
from tests.helpers.consumer import ROOT, clean
from tests.verification.test_settings import flagged, found, of, one_of_each

pytestmark = pytest.mark.skipif(not FORKS, reason="reads /proc, and forks")


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, shlex.join(warm.interpreter()))
    monkeypatch.setenv(ranked.MARKER, str(tmp_path / "marker"))


def fresh(optimizer: type[Sound]) -> Subject:
    """A subject in ddp, and no ranks from an earlier test: they have its environment."""
    from frostproof.trial.ranks import _TEAMS

    for team in _TEAMS.values():
        team.processes.end()
    return of(optimizer, "ddp")


def test_a_rank_that_dies_once_is_replaced_and_the_trial_is_run_again(tmp_path: Path) -> None:
    verification = found(fresh(ranked.DiesOnce), one_of_each(Sound))
    assert (tmp_path / "marker").exists()
    assert not flagged(verification)
    assert not verification.rejected_cases
    assert verification.tallies["ranks-agree"].judged == 1


def test_a_rank_that_always_dies_is_a_crash_with_its_rank() -> None:
    subject = fresh(ranked.Dies)
    trial = run_trial(one_of_each(Sound), subject, "cpu", (), Approaches()).trial
    assert trial.crash is not None
    assert str(trial.crash) == "LostError: rank 1 was ended by SIGKILL"
    assert trial.crash.rank == 1


class NoNumberError(ArithmeticError):
    """Cannot be sent to another process, which would build it without a number."""

    def __init__(self, number: int, unit: str) -> None:
        super().__init__(f"{number} {unit}")


def test_an_exception_that_cannot_be_sent_is_of_the_builtin_kind_that_catches_it() -> None:
    sent = trial_ranks._sendable(NoNumberError(3, "km"), "", 5)
    assert type(sent) is ArithmeticError
    assert str(sent) == "NoNumberError: 3 km"


def test_a_rank_that_hangs_is_a_crash_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "LIMIT", 4.0)
    subject = fresh(ranked.Sleeps)
    started = time.monotonic()
    trial = run_trial(one_of_each(Sound), subject, "cpu", (), Approaches()).trial
    assert "rank 1 did not answer for 4 s" in str(trial.crash)
    assert time.monotonic() - started < 60


def test_a_rank_that_was_only_slow_is_not_accused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trial_ranks, "LIMITS", (1, 20, 1))
    verification = found(fresh(ranked.IsSlowOnce), one_of_each(Sound))
    assert (tmp_path / "marker").exists()
    assert not flagged(verification)
    assert verification.tallies["ranks-agree"].judged == 1


def test_ranks_stay_for_many_trials_and_listen_to_this_machine_alone(tmp_path: Path) -> None:
    subject = fresh(ranked.TellsItsProcess)
    for _ in range(3):
        assert not flagged(found(subject, one_of_each(Sound)))
    processes = (tmp_path / "marker").read_text().split()
    assert len(set(processes)) == 2


def test_ranks_end_with_the_process_that_asked_for_them(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    code = (
        "from tests.helpers import ranked\n"
        "from tests.verification.test_settings import found, of, one_of_each\n"
        "found(of(ranked.TellsItsProcess, 'ddp'), one_of_each(ranked.TellsItsProcess))\n"
        "print('trained', flush=True)\n"
        "input()\n"
    )
    variables = {ranked.MARKER: str(marker), VARIABLE: os.environ[VARIABLE]}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean(**variables),
        stdin=pipe,
        stdout=pipe,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "trained\n"
        process.send_signal(signal.SIGKILL)
    processes = set(marker.read_text().split())
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{each}").exists() for each in processes):
        assert time.monotonic() < deadline, "a rank is left"
        time.sleep(0.05)
