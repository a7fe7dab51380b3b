"""The workflows, those of docs/ci.md, and the action are sound and do what the documents say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from frostproof.optimizers.zoo import LIBRARIES
from tests.helpers.workflows import (
    ACTION,
    CI,
    DOCUMENTED,
    NIGHTLY,
    ROOT,
    needs_bash,
    parsed,
    steps,
)


def texts() -> dict[str, str]:
    """All that is linted, by a name."""
    files = [*sorted((ROOT / ".github" / "workflows").iterdir()), ACTION]
    return {each.name: each.read_text(encoding="utf-8") for each in files} | {
        f"docs{n}.yml": text for n, text in enumerate(DOCUMENTED)
    }


def workflows(folder: Path) -> list[Path]:
    """The files of all workflows; those of the documentation are written to `folder`."""
    for number, text in enumerate(DOCUMENTED):
        (folder / f"docs{number}.yml").write_text(text, encoding="utf-8")
    return [*sorted((ROOT / ".github" / "workflows").iterdir()), *sorted(folder.iterdir())]


def test_workflows_and_the_action_are_as_the_published_schema_says(tmp_path: Path) -> None:
    for schema, paths in (
        ("vendor.github-workflows", workflows(tmp_path)),
        ("vendor.github-actions", [ACTION]),
    ):
        words = ["-m", "check_jsonschema", "--builtin-schema", schema, *map(str, paths)]
        command = [sys.executable, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    program = shutil.which("actionlint")
    if program is None:
        pytest.skip("no actionlint here: it looks where the schema does not")
    done = subprocess.run(
        [program, *map(str, workflows(tmp_path))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_script_has_an_expression_in_it() -> None:
    """Text from outside reaches a shell as a variable, never as a part of the script."""
    for name, text in texts().items():
        assert not [each["run"] for each in steps(text) if "${{" in each.get("run", "")], name


@needs_bash
def test_every_script_is_sound_bash() -> None:
    for name, text in texts().items():
        for script in (each["run"] for each in steps(text) if "run" in each):
            done = subprocess.run(
                ["bash", "-n"], input=script, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{name}: {done.stderr}"


def test_every_action_of_others_is_named_by_its_major_version() -> None:
    for name, text in texts().items():
        for uses in (each["uses"] for each in steps(text) if "uses" in each):
            assert re.fullmatch(r"[\w.-]+(/[\w.-]+)+@v\d+", uses), f"{name}: {uses}"


def test_workflows_may_read_the_repository_and_no_more() -> None:
    for name, text in texts().items():
        if name != ACTION.name:
            assert parsed(text)["permissions"] == {"contents": "read"}, name


def test_what_is_kept_has_a_key_of_this_run_and_is_found_by_its_beginning() -> None:
    for name, text in texts().items():
        restored, saved = (
            [
                each["with"]
                for each in steps(text)
                if each.get("uses", "").startswith(f"actions/cache/{verb}@")
            ]
            for verb in ("restore", "save")
        )
        for each in restored:
            assert (
                each["key"]
                == each["restore-keys"] + "${{ github.run_id }}-${{ github.run_attempt }}"
            ), name
        assert {(each["key"], each["path"]) for each in saved} == {
            (each["key"], each["path"]) for each in restored
        }, name
        assert restored or name in ("ci.yml", "docs0.yml")


def test_what_a_failing_check_found_is_kept_all_the_same() -> None:
    for name, text in texts().items():
        found = list(steps(text))
        judged = [
            n
            for n, each in enumerate(found)
            if re.search("--fail-on-new|check .* --html", each.get("run", ""))
        ]
        for each in found[judged[0] + 1 :] if judged else ():
            assert each["if"].startswith("${{ !cancelled()"), f"{name}: {each}"
        assert judged or name in ("ci.yml", "docs0.yml")


def test_ci_runs_what_the_readme_says() -> None:
    assert [each["run"] for each in steps(CI.read_text()) if "run" in each] == ["bash .ci/run"]
    script = (ROOT / ".ci" / "run").read_text()
    assert all(
        part in script
        for part in (
            "$(readme tests)",
            "$(readme properties)",
            "sphinx-build -W",
            "ruff check",
            "ruff format --check",
            "mypy",
        )
    )


def test_a_night_says_which_lines_the_tests_run() -> None:
    assert "bash .ci/run coverage" in [each.get("run") for each in steps(NIGHTLY.read_text())]


def test_a_night_looks_at_torch_and_at_each_library_of_the_zoo() -> None:
    jobs = parsed(NIGHTLY.read_text(encoding="utf-8"))["jobs"]
    entries = jobs["search"]["strategy"]["matrix"]["include"]
    assert {each["library"] for each in entries} == {"torch.optim", *LIBRARIES.values()}
    assert len({(each["library"], each["shard"]) for each in entries}) == len(entries)
    assert jobs["search"]["strategy"]["fail-fast"] is False
    assert jobs["report"]["needs"] == "search"


def test_a_night_tests_releases_of_torch_from_the_lowest_and_the_page_has_them() -> None:
    def found(pattern: str, *path: str) -> list[str]:
        text = ROOT.joinpath(*path).read_text(encoding="utf-8")
        return re.findall(pattern, text, re.MULTILINE)

    job = parsed(NIGHTLY.read_text(encoding="utf-8"))["jobs"]["releases"]
    releases = job["strategy"]["matrix"]["torch"]
    (lowest,) = found(r'"torch>=([\d.]+)"', "pyproject.toml")
    assert releases[0].startswith(f"{lowest}.")
    assert {*found(r"^torch==(.+)$", "constraints.txt")} < {*releases}
    assert {*releases} <= {*found(r"^\| (\d[\d.]+)", "docs", "torch-findings.md")}


def test_the_table_of_inputs_names_those_of_the_action() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|", (ROOT / "docs" / "ci.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    inputs = parsed(ACTION.read_text(encoding="utf-8"))["inputs"]
    assert rows == list(inputs)
    assert [name for name, each in inputs.items() if each.get("required")] == ["targets"]
