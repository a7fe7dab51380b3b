"""Runs the tests on several releases of torch, each in an environment of its own, and compares.

Usage: python benchmarks/versions.py [--folder DIR] [--pytest ARGUMENTS] RELEASE...

It installs each release of torch with pip into DIR/RELEASE (default: .torch), where it stays for
the next run, and this checkout beside it. It prints how the tests ended, and where the verdicts of
the releases differ. Exit code 1 if a test failed. It needs nothing but Python and pip.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
TESTS = "properties -n auto --frostproof-device cpu --frostproof-seed 0 -q"


class Run(NamedTuple):
    """How the tests ended on one release of torch."""

    torch: str
    """The version that was installed, such as `2.13.0+cpu`."""

    outcomes: Counter[str]
    """passed, failed, expected failures or skipped -> the number of tests."""

    failed: list[str]
    """The names of the tests that failed."""

    verdicts: dict[tuple[str, str], str]
    """The name of an optimizer and the id of an invariant -> the status."""


def installed(folder: Path, release: str) -> Path:
    """The Python of an environment with this release of torch and this checkout."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = folder / "constraints.txt"
    others = [line for line in pins if not line.startswith("torch==")]
    constraints.write_text("\n".join([*others, f"torch=={release}"]))
    pip = [str(python), "-m", "pip", "install", "-q", "-c", str(constraints)]
    subprocess.run([*pip, f"torch=={release}"], check=True)
    subprocess.run([*pip, "-e", f"{ROOT}[dev]"], check=True)
    return python


def run(python: Path, arguments: str) -> Run:
    """Run the tests, whose output stays in the folder of the environment."""
    folder = python.parents[1]
    results, junit = folder / "results.json", folder / "junit.xml"
    for path in (results, junit):
        path.unlink(missing_ok=True)
    words = [*shlex.split(arguments), f"--junit-xml={junit}", f"--frostproof-json={results}"]
    with (folder / "output.txt").open("w") as output:
        command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *words]
        subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, check=False)
    ask = "import importlib.metadata as m; print(m.version('torch'))"
    said = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True)
    ended = dict(outcomes(junit))
    failed = sorted(name for name, outcome in ended.items() if outcome == "failed")
    return Run(said.stdout.strip(), Counter(ended.values()), failed, verdicts(results))


def outcomes(junit: Path) -> Iterator[tuple[str, str]]:
    """The name of each test and how it ended; nothing if pytest did not run."""
    for case in ElementTree.parse(junit).iter("testcase") if junit.exists() else ():
        skipped = case.find("skipped")
        expected = skipped is not None and skipped.get("type") == "pytest.xfail"
        broken = case.find("failure") is not None or case.find("error") is not None
        outcome = "failed" if broken else "expected failures" if expected else "passed"
        if skipped is not None and not expected:
            outcome = "skipped"
        yield f"{case.get('classname')}::{case.get('name')}", outcome


def verdicts(results: Path) -> dict[tuple[str, str], str]:
    if not results.exists():
        return {}
    return {
        (f"{row['target']} {row['variant']}", each["id"]): each["status"]
        for row in json.loads(results.read_text())["subjects"]
        for each in row["invariants"]
    }


def table(runs: Mapping[str, Run]) -> Iterator[str]:
    """How the tests ended, the tests that failed, and the verdicts that differ, as Markdown."""
    columns = ("passed", "failed", "expected failures", "skipped")
    yield f"| torch | {' | '.join(columns)} |"
    yield "| --- " * (1 + len(columns)) + "|"
    for each in runs.values():
        yield f"| {each.torch} | {' | '.join(str(each.outcomes[name]) for name in columns)} |"
    for each in runs.values():
        yield from (f"\nFailed with torch {each.torch}: {name}" for name in each.failed)
    found = sorted({key for each in runs.values() for key in each.verdicts})
    for name in dict.fromkeys(name for name, _ in found):
        absent = [run.torch for run in runs.values() if name not in {n for n, _ in run.verdicts}]
        if absent:
            yield f"\nNot in torch {', '.join(absent)}: {name}"
    rows = {key: [each.verdicts.get(key, "") for each in runs.values()] for key in found}
    # Whether an invariant was reached in a short run is chance.
    differing = {key: row for key, row in rows.items() if len({*row} - {"", "unreached"}) > 1}
    if differing:
        yield f"\n| optimizer | invariant | {' | '.join(each.torch for each in runs.values())} |"
        yield "| --- " * (2 + len(runs)) + "|"
    for (name, identity), row in differing.items():
        yield f"| {name} | {identity} | {' | '.join(row)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("releases", nargs="+", metavar="RELEASE", help="of torch, such as 2.14.1")
    parser.add_argument("--folder", type=Path, default=ROOT / ".torch", metavar="DIR")
    parser.add_argument("--pytest", default=TESTS, metavar="ARGUMENTS", help="default: %(default)s")
    given = parser.parse_args()
    folder = given.folder.resolve()
    runs = {}
    for release in given.releases:
        runs[release] = run(installed(folder / release, release), given.pytest)
        ended = dict(runs[release].outcomes) or "no test ran"
        print(f"torch {release}: {ended}; {folder / release / 'output.txt'}", file=sys.stderr)
    print("\n".join(table(runs)))
    return int(any(each.outcomes["failed"] or not each.outcomes for each in runs.values()))


if __name__ == "__main__":
    sys.exit(main())
