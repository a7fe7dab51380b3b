"""`frostproof doctor` describes the environment, in one screen."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.helpers.consumer import run
from tests.helpers.warm import frostproof


def test_it_names_versions_devices_and_plugins(tmp_path: Path) -> None:
    done = run(tmp_path, frostproof("doctor"))
    assert done.returncode == 0, done.stderr
    lines = {line[:15].strip(): line[16:] for line in done.stdout.splitlines()}
    assert lines["torch"] == torch.__version__
    assert lines["device"].startswith("cpu: kernels for ")
    assert lines["configuration"] == "none"
    assert "remembered in the local folder" in lines["failures"]
    assert "pytest-xdist" in lines["pytest plugins"]
    assert "conflict" not in lines


def test_it_tells_what_the_configuration_sets_and_which_of_it_spoils_a_run(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\n"
        "addopts = -x\n"
        "frostproof_profile = ci\n"
        "frostproof_databases = redis://:secret@127.0.0.1:1/0\n"
    )
    done = run(tmp_path, frostproof("doctor"))
    assert done.returncode == 0, done.stderr
    assert "profile: ci" in done.stdout
    assert "redis://127.0.0.1:1/0 is left out" in done.stdout
    assert "secret" not in done.stdout
    assert "conflict        -x and --maxfail end the run" in done.stdout


def test_a_configuration_that_cannot_be_read_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfrostproof_profile = weekly\n")
    done = run(tmp_path, frostproof("doctor"))
    assert done.returncode == 2
    assert "unknown profile 'weekly'" in done.stderr
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    done = run(tmp_path, frostproof("doctor"))
    assert done.returncode == 2
    assert "cannot read its configuration" in done.stderr
