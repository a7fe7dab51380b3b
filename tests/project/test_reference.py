"""The reference pages of docs/ state what is there, and each page has its place in the site."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec

import frostproof
from frostproof.doors import parametrize
from frostproof.doors.command.listener import DOUBTFUL_EXIT_CODE, EXIT_CODES
from frostproof.doors.pytest_plugin.options import OPTIONS
from frostproof.invariants.invariant import ViolationClass
from frostproof.invariants.registry import GROUPS, INVARIANTS
from frostproof.report.terminal import COST, STALE, STATUS_SYMBOLS
from frostproof.results.files import load_results, results_schema
from frostproof.results.rows import Environment, InvariantRow, Results, SubjectRow, Totals
from frostproof.verification import item_report
from tests.helpers import planted, planted_programs, planted_rare, planted_settings
from tests.helpers.consumer import SHY, check

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = DOCS / "results.schema.json"
SECTIONS = ["Why it matters", "A bug that it found", "How to mend it", "What is judged"]
PLANTED = (*planted.BUGS, *planted_programs.PROGRAM_BUGS, *planted_rare.RARE_BUGS)
WRITE = "from frostproof.results.files import results_schema as s; print(s().decode(), end='')"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(text: str) -> list[str]:
    """The first column of the tables in a text, without their headings."""
    return [name for cell in re.findall(r"^\| (`.*?) \|", text, re.M) for name in _names(cell)]


def _names(cell: str) -> list[str]:
    return re.findall(r"`([\w-]+)`", cell)


def entries(text: str) -> list[str]:
    """The pages that the toctrees of a page name, in order."""
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.M | re.S)
    return [line for tree in trees for line in tree.splitlines() if line and line[0] != ":"]


def test_every_page_has_its_place_in_the_site() -> None:
    index = [*entries(page("index.md")), "index"]
    below = [f"invariants/{each}" for each in entries(page("invariants/index.md"))]
    pages = [str(each.relative_to(DOCS).with_suffix("")) for each in DOCS.rglob("*.md")]
    assert sorted(index + below) == sorted(pages), "name the page in a toctree of docs/index.md"


def test_the_index_links_the_pages_in_the_order_of_the_site() -> None:
    links = re.findall(r"\]\(([\w/-]+)\.md\)", page("index.md"))
    assert links == entries(page("index.md"))


def test_the_page_on_reports_has_every_mark_class_and_exit_code() -> None:
    text = page("reading-results.md")
    marks = {*STATUS_SYMBOLS.values(), COST, STALE, "!"} - {" "}
    assert marks == {*re.findall(r"^\| `(.)` \|", text, re.M)}
    classes = text.partition("| class |")[2].partition("\n\n")[0]
    assert rows(classes) == list(get_args(ViolationClass))
    codes = {*map(int, re.findall(r"^\| (\d+) \|", text, re.M))}
    assert codes == {*EXIT_CODES.values(), DOUBTFUL_EXIT_CODE}


def test_the_page_of_pytest_options_has_each_of_them() -> None:
    table = re.findall(r"^\| `--.*$", page("pytest-options.md"), re.M)
    assert table == [
        f"| `{f'--frostproof-{each.name} {each.metavar}'.strip()}` "
        f"| `frostproof_{each.name.replace('-', '_')}{'s` (list)' if each.many else '`'} "
        f"| {each.help} |"
        for each in OPTIONS
    ]


def test_the_page_of_python_has_every_public_name_and_every_field() -> None:
    text = page("python-api.md")
    directives = re.findall(r"^\.\. auto\w+:: (\w+)\n(?:   :members: (.+))?", text, re.M)
    assert sorted(name for name, _ in directives) == sorted(frostproof.__all__)
    for name, members in directives:
        fields = getattr(getattr(frostproof, name), "__struct_fields__", ())
        assert not members or {*fields} <= {*members.split(", ")}, name


def test_the_page_of_results_has_every_field_and_every_fact() -> None:
    parts = re.split(r"^## (\w+)$", page("results.md"), flags=re.M)
    found = {name: rows(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    for name, kind in (
        ("environment", Environment),
        ("subjects", SubjectRow),
        ("invariants", InvariantRow),
        ("totals", Totals),
    ):
        fields = [each.encode_name for each in msgspec.structs.fields(kind)]
        assert sorted(found[name]) == sorted(fields), name
    sources = inspect.getsource(item_report) + inspect.getsource(parametrize)
    facts = re.findall(r'facts\["([\w-]+)"\] =', sources)
    assert found["facts"] == facts


def test_each_invariant_has_a_page_with_its_statement() -> None:
    assert entries(page("invariants/index.md")) == [each.id for each in INVARIANTS]
    table = re.findall(r"^\| \[(.*)\]\((.*)\.md\) \| (.*) \|$", page("invariants/index.md"), re.M)
    assert table == [(each.id, each.id, each.statement) for each in INVARIANTS]
    for each in INVARIANTS:
        title, quote, facts, *_ = page(f"invariants/{each.id}.md").split("\n\n")
        (group,) = (name for name, ids in GROUPS.items() if each.id in ids)
        assert (title, quote.replace("\n>", "")) == (f"# {each.id}", f"> {each.statement}.")
        known = f"Severity `{each.severity}`, class `{each.violation_class}`, group `{group}`."
        assert facts == known, each.id


def test_each_page_of_an_invariant_says_the_same_four_things() -> None:
    for each in INVARIANTS:
        parts = re.split(r"^## (.*)$", page(f"invariants/{each.id}.md"), flags=re.M)
        said = dict(zip(parts[1::2], parts[2::2], strict=True))
        assert [*said] == SECTIONS, each.id
        assert "```python\n# before\n" in said["How to mend it"], each.id
        assert "\n# after" in said["How to mend it"], each.id
        named = {*re.findall(r"`(\w+)`", said["A bug that it found"])}
        in_settings = {
            optimizer.__name__
            for bugs in planted_settings.BUGS.values()
            for optimizer, identity in bugs.items()
            if identity == each.id
        }
        caught = in_settings | {bug.name for bug in PLANTED if bug.invariant == each.id}
        assert named & {bug.name for bug in PLANTED} <= caught, each.id
        assert ("lanted" in said["A bug that it found"]) == bool(named & caught), each.id


def test_the_published_schema_is_that_of_the_results() -> None:
    assert SCHEMA.read_bytes() == results_schema(), f'python -c "{WRITE}" > {SCHEMA}'


def test_results_of_both_versions_are_valid_by_the_published_schema(tmp_path: Path) -> None:
    (tmp_path / "mylib.py").write_text(SHY)
    files = []
    for number, name in enumerate(("Plain", "Shy"), start=1):
        check(tmp_path, f"mylib:{name}", "--max-examples", "20", "--seed", "0", "--jobs", "0")
        files.append((tmp_path / "out.json").rename(tmp_path / f"version{number}.json"))
        assert json.loads(files[-1].read_text())["version"] == number
        assert isinstance(load_results(files[-1]), Results)
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(SCHEMA)]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = files[0].read_text().replace('"held"', '"fine"', 1)
    files[0].write_text(broken)
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 1, "a status that the format does not have is refused"
