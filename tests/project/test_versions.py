"""The script that runs the tests on several releases of torch says how they ended and differ."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.consumer import ROOT
from tests.helpers.workflows import needs_bash

SCRIPT = ROOT / "benchmarks" / "versions.py"
JUNIT = """<testsuites><testsuite>
<testcase classname="properties.test_optimizers" name="test_optimizer[SGD]"/>
<testcase classname="properties.test_optimizers" name="test_known_failure[SGD]">{ending}</testcase>
<testcase classname="properties.test_optimizers" name="test_optimizer[Adam]"><skipped/></testcase>
</testsuite></testsuites>"""
EXPECTED = '<skipped type="pytest.xfail" message="raises"/>'
FAILED = '<failure message="[XPASS(strict)]">it holds</failure>'
RESULTS = """{{"subjects": [{{"target": "torch.optim:SGD", "variant": "fused", "invariants": [
{{"id": "thaw-resumes", "status": "{status}"}},
{{"id": "repeats-itself", "status": "{reached}"}}]}}{more}]}}"""
MUON = """, {"target": "torch.optim:Muon", "variant": "default", "invariants": [
{"id": "thaw-resumes", "status": "held"}]}"""
PYTHON = """#!/bin/bash
# The Python of an environment, which has nothing but what is asked of it here.
here=$(dirname "$0")
case "$*" in
    *"-m pip install"*) echo "$@" >> "$here/../pip" ;;
    *"-m pytest"*) cp "$here/junit.xml" "$here/results.json" "$here/.." ;;
    *) echo {version} ;;
esac
"""


def environment(folder: Path, release: str, ending: str, status: str) -> None:
    programs = folder / release / "bin"
    programs.mkdir(parents=True)
    (programs / "junit.xml").write_text(JUNIT.format(ending=ending))
    reached, more = ("held", MUON) if release == "2.9.0" else ("unreached", "")
    results = RESULTS.format(status=status, reached=reached, more=more)
    (programs / "results.json").write_text(results)
    (programs / "python").write_text(PYTHON.format(version=f"{release}+cpu"))
    (programs / "python").chmod(0o755)


@needs_bash
@pytest.mark.parametrize("differs", [True, False])
def test_what_failed_and_what_differs_is_said(differs: bool, tmp_path: Path) -> None:
    environment(tmp_path, "2.8.0", EXPECTED, "expected")
    environment(tmp_path, "2.9.0", *((FAILED, "held") if differs else (EXPECTED, "expected")))
    command = [sys.executable, str(SCRIPT), "--folder", str(tmp_path), "2.8.0", "2.9.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == int(differs), done.stderr
    said = done.stdout.splitlines()
    assert "| 2.8.0+cpu | 1 | 0 | 1 | 1 |" in said
    assert ("| 2.9.0+cpu | 1 | 1 | 0 | 1 |" in said) == differs
    name = "properties.test_optimizers::test_known_failure[SGD]"
    assert (f"Failed with torch 2.9.0+cpu: {name}" in said) == differs
    row = "| torch.optim:SGD fused | thaw-resumes | expected | held |"
    assert (row in said) == differs
    assert not any("repeats-itself" in line for line in said)
    assert [line for line in said if "Muon" in line] == [
        "Not in torch 2.8.0+cpu: torch.optim:Muon default"
    ]
    torch, project = (tmp_path / "2.9.0" / "pip").read_text().splitlines()
    assert torch.endswith(" torch==2.9.0")
    assert project.endswith(f" -e {ROOT}[dev]")
    pins = (tmp_path / "2.9.0" / "constraints.txt").read_text().splitlines()
    assert [pin for pin in pins if pin.startswith("torch==")] == ["torch==2.9.0"]
    assert len(pins) == len((ROOT / "constraints.txt").read_text().splitlines())
