"""The workflows and the action of this project as data, and a machine that runs their steps."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from tests.helpers.consumer import clean

ROOT = Path(__file__).parents[2]
CI, NIGHTLY = (ROOT / ".github" / "workflows" / name for name in ("ci.yml", "nightly.yml"))
ACTION = ROOT / ".github" / "actions" / "check" / "action.yml"
DOCUMENTED = re.findall(
    r"^```yaml\n(.*?)^```$",
    (ROOT / "docs" / "ci.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)
EXPRESSION = re.compile(r"\$\{\{ *(.*?) *\}\}")

needs_bash = pytest.mark.skipif(
    os.name == "nt" or shutil.which("bash") is None, reason="the steps are written for bash"
)


def parsed(text: str) -> Any:
    return YAML(typ="safe").load(text)


def steps(text: str) -> Iterator[dict[str, Any]]:
    """Every step of a workflow, or of a composite action."""
    content = parsed(text)
    for job in content.get("jobs", {"action": content.get("runs")}).values():
        yield from job["steps"]


def step(path: Path, name: str, job: str | None = None) -> dict[str, Any]:
    content = parsed(path.read_text(encoding="utf-8"))
    found = content["runs"]["steps"] if job is None else content["jobs"][job]["steps"]
    (named,) = (each for each in found if each.get("name") == name)
    return dict(named)


class Runner(NamedTuple):
    """A machine with nothing but a checkout."""

    folder: Path
    values: Mapping[str, str]
    """What the expressions of a workflow mean on it."""

    @classmethod
    def started(
        cls, folder: Path, optimizers: str = "", values: Mapping[str, str] | None = None
    ) -> Runner:
        folder.mkdir(parents=True)
        if optimizers:
            (folder / "mylib.py").write_text(optimizers)
        return cls(folder, values or {})

    def run(
        self, step: dict[str, Any], path: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a step as GitHub does: with `bash -e`, and with more options if it names bash."""
        given = {
            name: EXPRESSION.sub(lambda found: self.values[found[1]], str(value))
            for name, value in step.get("env", {}).items()
        }
        here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        ours = {
            "CI": "true",
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_ACTION_PATH": str(ACTION.parent),
            "PATH": here if path is None else path,
        }
        script = self.folder.with_name(f"{self.folder.name}.sh")
        script.write_text(step["run"])
        options = "--noprofile --norc -eo pipefail" if step.get("shell") == "bash" else "-e"
        return subprocess.run(
            [str(shutil.which("bash")), *options.split(), str(script)],
            cwd=self.folder,
            env=clean(**ours | given),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @property
    def summary(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.md")
