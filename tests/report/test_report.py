"""Reports: shards merged, runs compared, and the forms in which people read them."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from frostproof.doors.command.main import main
from frostproof.errors import UsageError
from frostproof.invariants.registry import INVARIANTS
from frostproof.report.files import write_reports
from frostproof.report.html.page import results_page
from frostproof.report.markdown import STEP_SUMMARY_LIMIT, results_markdown
from frostproof.report.terminal import FEW, explained_lines, results_table
from frostproof.results.baseline import compare, comparison_lines, has_new_failure
from frostproof.results.files import load_results, merge_results
from frostproof.results.rows import (
    InvariantRow,
    Results,
    SubjectRow,
    environment,
    merge_rows,
    totals,
)
from frostproof.spec.casefile import save
from frostproof.verification.item_report import subject_status
from tests.helpers import made_up
from tests.helpers.mutation import spoiled_bytes, spoiled_values

NAMES = (
    "evil:<script>alert(1)</script>",
    "a\"b:' onmouseover=alert(1) x='",
    "p|pe:`tick` ![x](http://example.com/x.png) @someone",
    "{{7*7}}:{%x%}",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return made_up.results(80, 20, folder / "frostproof-cases", NAMES)


def copied(results: Results) -> Results:
    return msgspec.json.decode(results.to_json(), type=Results)


def frostproof(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, [str(each) for each in arguments])
    return done.exit_code, done.output


class Tags(HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_shards_are_merged_and_written_in_every_form(
    results: Results, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the subjects in each shard, and one in both."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    first, second = copied(results), copied(results)
    first.subjects, second.subjects = first.subjects[:41], second.subjects[40:]
    second.environment.torch, second.environment.devices, second.environment.seed = (
        "2.14.0",
        ["cpu", "mps"],
        8,
    )
    shards = []
    for name, shard in (("one", first), ("two", second)):
        shards.append(folder / f"{name}.json")
        shards[-1].write_bytes(shard.to_json())
    names = {form: folder / f"merged.{form}" for form in ("html", "md", "json")}
    files = ("--html", names["html"], "--markdown", names["md"], "--json", names["json"])
    code, output = frostproof("report", *shards, *files, "--baseline", shards[0])
    assert code == 0, output
    merged = load_results(names["json"])
    assert (len(merged.subjects), merged.totals.subjects) == (80, 80)
    assert merged.totals.trials == 81 * 400
    assert (merged.environment.torch, merged.environment.seed) == ("2.13.0, 2.14.0", None)
    assert merged.environment.devices == ["cpu", "cuda", "mps"]
    html = names["html"].read_text()
    assert html.count('<svg class="network"') == 20
    assert "frostproof replay" in html
    summary = names["md"].read_text()
    assert summary.startswith("## frostproof")
    assert "several seeds" in summary
    assert "None" not in summary.splitlines()[4]


def test_whatever_comes_from_outside_is_escaped(results: Results, folder: Path) -> None:
    html = results_page(results, (folder,), results)
    tags = Tags(html).tags
    assert [tag for tag, _ in tags].count("script") == 1
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert "{{7*7}}" in html
    targets = [
        value
        for _, attributes in tags
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "xlink:href")
    ]
    assert all(value is not None and value.startswith(("#", "data:,")) for value in targets)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_a_page_quotes_no_file_but_cases_and_scripts_beside_the_results(
    results: Results, folder: Path, tmp_path: Path
) -> None:
    """A results file may name any path, and its page may be shown to others."""
    for name in ("secret.txt", "secret.py", "secret.json"):
        (tmp_path / name).write_text("password")
    inside = folder / "frostproof-cases"
    (inside / "link.py").unlink(missing_ok=True)
    (inside / "link.py").symlink_to(tmp_path / "secret.py")
    paths = [
        str(tmp_path / "secret.py"),
        f"../{tmp_path.name}/secret.py",
        "frostproof-cases/link.py",
        "/etc/passwd",
        "a\0b.py",
        ".",
    ]
    hostile = copied(results)
    rows = [each for row in hostile.subjects for each in row.invariants if each.case]
    for each, path in zip(rows, paths, strict=False):
        each.reproducer, each.case = path, path.replace(".py", ".json")
    assert "password" not in results_page(hostile, (folder,))
    swapped = copied(results)
    one, other, *_ = (each for row in swapped.subjects for each in row.invariants if each.case)
    one.case = other.case
    assert results_page(swapped, (folder,)).count("was not found beside the results") == 1


def test_what_changed_since_the_baseline(results: Results) -> None:
    before = copied(results)
    violated = [
        (row, each)
        for row in before.subjects
        for each in row.invariants
        if each.status == "violated"
    ]
    (subject, fresh), (_, still) = violated[0], violated[1]
    fresh.status = "held"
    sound = next(row for row in before.subjects if row.status == "held")
    for row in (subject, sound):
        next(each for each in row.invariants if each.id == "trainable-moves").status = "violated"
    found = compare(results, before)
    assert found[subject.key, fresh.id] == "new"
    assert found[sound.key, "trainable-moves"] == "fixed"
    assert (subject.key, "trainable-moves") not in found, (
        "a search ends at the first that it finds, and may not have come to this one"
    )
    assert found[subject.key, still.id] == "still"
    text = results_markdown(results, before)
    assert text.index("**new**") < text.index("**fixed**") < text.index("**still**")
    html = results_page(results, (), before)
    assert all(
        f'data-filter="change" data-value="{change}"' in html
        for change in ("new", "stale", "fixed", "still")
    )


def test_an_expectation_that_is_stale_is_no_new_violation(results: Results) -> None:
    now = copied(results)
    row = next(each for each in now.subjects if each.status == "held")
    stale = next(each for each in row.invariants if each.id == "trainable-moves")
    stale.status, stale.violated = "violated", 0
    before = copied(now)
    next(
        each
        for other in before.subjects
        if other.key == row.key
        for each in other.invariants
        if each.id == "trainable-moves"
    ).status = "expected"
    first, said = list(comparison_lines(now, before))[:2]
    assert first.startswith("since the last results: 0 new, 0 fixed,")
    assert first.endswith(", 1 stale")
    assert said == (
        f"  stale: {row.name} on {row.device}: trainable-moves: expected to fail, but held: "
        "drop the expectation"
    )
    assert has_new_failure(now, before)


def test_what_was_judged_before_and_is_not_now_is_new(results: Results) -> None:
    now = copied(results)
    row = next(each for each in now.subjects if each.status == "held")
    row.status, row.invariants = "unusable", []
    assert compare(now, results)[row.key, "not-judged"] == "new"
    assert has_new_failure(now, results)
    assert f"  new: {row.name} on {row.device}: not-judged" in comparison_lines(now, results)
    assert not has_new_failure(now, now), "it was not judged in the last run either"
    assert results_page(now, (), results)


def test_a_subject_of_the_baseline_that_is_not_in_this_run_is_named(results: Results) -> None:
    now = copied(results)
    lost = now.subjects.pop(24)
    name = f"{lost.name} on {lost.device}"
    assert f"  not in this run: {name}" in comparison_lines(now, results)
    assert f"Not in this run: `{name}`." in results_markdown(now, results)
    assert f"not in this run: {name}<" in results_page(now, (), results)


def test_what_is_stated_as_expected_is_not_fixed_until_it_holds(results: Results) -> None:
    expected, held = copied(results), copied(results)
    row = next(row for row in results.subjects if row.status == "violated")
    violated = next(each.id for each in row.invariants if each.status == "violated")
    for run in (expected, held):
        subject = next(other for other in run.subjects if other.key == row.key)
        subject.status = "held"
        for each in subject.invariants:
            if each.status == "violated":
                stated = run is expected and each.id == violated
                each.status, each.violated = "expected" if stated else "held", 0
    key = (row.key, violated)
    assert key not in compare(expected, results)
    assert compare(held, expected)[key] == "fixed"


def test_what_is_no_longer_judged_is_not_fixed(results: Results) -> None:
    now = copied(results)
    subject = next(row for row in now.subjects if row.status == "violated")
    for each in subject.invariants:
        each.status = "unreached"
    subject.status = "unusable"
    found = {key: each for key, each in compare(now, results).items() if key[0] == subject.key}
    assert found == {(subject.key, "not-judged"): "new"}


def test_markdown_is_safe_and_has_the_worst_first(results: Results) -> None:
    lines = results_markdown(results).splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    statuses = [re.split(r"(?<!\\)\|", row)[3].strip() for row in rows]
    assert statuses == sorted(
        statuses, key=("crashed", "violated", "doubtful", "unusable", "as expected").index
    )
    assert len({len(re.split(r"(?<!\\)\|", row)) for row in rows}) == 1
    outside = re.sub(r"(`+) ?.*? ?\1", "", "\n".join(rows))
    assert not re.search(r"[<@!\[]", outside)


@pytest.fixture
def doubtful(results: Results, folder: Path) -> Results:
    """Three subjects: one doubtful and one crashed, each with a case and a script, and one held."""
    few = copied(results)
    first = next(row for row in few.subjects if row.status == "violated")
    shown = next(each for each in first.invariants if each.status == "violated")
    shown.status, first.status = "doubtful", "doubtful"
    shown.explained = {"depends-on-grouping": 3}
    for each in first.invariants:
        each.status = "held" if each.status == "violated" else each.status
    crashed = SubjectRow(
        "mylib:Dies",
        "default",
        "cpu",
        "",
        "crashed",
        "died twice",
        0,
        0,
        0.0,
        {},
        [],
        None,
        shown.reproducer,
    )
    found = made_up.casefile(crashed, "freeze-midway-holds", None, made_up.example(0))
    crashed.case = str(save(folder / "frostproof-cases", found)[0].relative_to(folder))
    few.subjects = [first, crashed, next(row for row in few.subjects if row.status == "held")]
    few.totals = totals(few.subjects, 3.0)
    return few


def test_what_is_doubtful_is_told_in_every_form(doubtful: Results, folder: Path) -> None:
    row = doubtful.subjects[0]
    each = next(each for each in row.invariants if each.status == "doubtful")
    text = results_table(doubtful.subjects, doubtful.totals)
    assert "D doubtful" in text
    assert "DOUBTFUL" in text
    assert f"    case: {each.case}\n    script: {each.reproducer}\n" in text
    assert "3 subjects (1 violated, 1 doubtful, 0 not judged)" in text
    assert "**1 violated**, **1 doubtful**" in results_markdown(doubtful)
    assert f"| doubtful | **{each.id}**" in results_markdown(doubtful)
    html = results_page(doubtful, (folder,))
    assert 'data-filter="status" data-value="doubtful"' in html
    assert 'data-status="doubtful"' in html
    assert "not shown by its script" in html
    assert "explained: depends-on-grouping 3" in html
    assert '<span class="badge doubtful">doubtful</span>' in html


def test_nothing_is_said_of_doubts_where_there_are_none(results: Results) -> None:
    sound = [row for row in results.subjects if row.status == "held"]
    assert "doubtful" not in results_table(sound, totals(sound, 1.0)).splitlines()[-1]


def test_the_title_of_a_page_of_doubts_alone_says_so(doubtful: Results) -> None:
    del doubtful.subjects[1]
    doubtful.totals = totals(doubtful.subjects, 3.0)
    assert "<title>1 doubtful · frostproof</title>" in results_page(doubtful)


def test_one_that_crashed_shows_its_case_and_script(doubtful: Results, folder: Path) -> None:
    crashed = doubtful.subjects[1]
    text = results_table(doubtful.subjects, doubtful.totals)
    files = f"    case: {crashed.case}\n    script: {crashed.reproducer}\n"
    assert f"CRASHED mylib:Dies on cpu: died twice\n{files}" in text
    assert str(crashed.case) in results_markdown(doubtful)
    html = results_page(doubtful, (folder,))
    article = html[html.index("<h2>mylib:Dies</h2>") :]
    article = article[: article.index("</article>")]
    assert f"frostproof replay {folder / str(crashed.case)}" in article
    assert "import torch" in article


def test_a_crash_quotes_no_file_from_elsewhere(
    doubtful: Results, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.py").write_text("password")
    doubtful.subjects[1].reproducer = str(tmp_path / "secret.py")
    assert "password" not in results_page(doubtful, (folder,))


def test_what_explained_differences_is_told_in_lines(doubtful: Results) -> None:
    row = doubtful.subjects[0]
    (each,) = (each for each in row.invariants if each.explained)
    assert list(explained_lines(doubtful.subjects)) == [
        f"explained: {row.name} on {row.device}: {each.id}: depends-on-grouping 3"
    ]


def test_a_new_doubt_fails_where_new_violations_do(doubtful: Results, tmp_path: Path) -> None:
    del doubtful.subjects[1]
    doubtful.totals = totals(doubtful.subjects, 3.0)
    path = tmp_path / "doubtful.json"
    path.write_bytes(doubtful.to_json())
    code, output = frostproof("report", path, "--fail-on-new")
    assert (code, output.splitlines()[0]) == (1, "2 subjects, 0 violated, 1 doubtful, 0 not judged")
    assert frostproof("report", path, "--fail-on-new", "--baseline", path)[0] == 0


def test_the_step_summary_stays_within_its_limit(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = copied(results)
    many.subjects *= 300
    file = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    for _ in range(3):
        write_reports(many)
        assert file.stat().st_size <= STEP_SUMMARY_LIMIT
    assert "did not fit here" in file.read_text()
    write_reports(results, markdown=file)
    assert file.read_text() == results_markdown(results), "one file, and one summary in it"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "none" / "summary.md"))
    write_reports(many)


def test_the_table_is_readable_at_80_columns_with_200_optimizers(
    results: Results, folder: Path
) -> None:
    rows = made_up.results(200, 50, folder / "many").subjects
    text = results_table(rows, results.totals)
    matrix = text[: text.index("\n\n  1 ")].splitlines()
    assert max(map(len, matrix)) <= 80
    assert len(matrix) < 80
    assert all(row.target.partition(":")[2] in text for row in rows if row.status == "held")
    header = matrix[0]
    assert header.endswith("12345 67890 12345 67890 12")
    assert len([each for each in INVARIANTS if each.applies_in is None]) == 22


def one_subject(*invariants: InvariantRow) -> Results:
    judged = sum(row.judged for row in invariants)
    status = subject_status(invariants, None, strict=False)
    row = SubjectRow(
        "lib:O", "default", "cpu", "1", status, None, 9, judged, 1.0, {}, [*invariants]
    )
    return Results(environment(["cpu"], "dev", 1), [row], totals([row], 3.0))


def test_optimizers_of_one_module_have_columns_without_its_name(results: Results) -> None:
    one, other = (copy.deepcopy(results.subjects[0]) for _ in range(2))
    one.target, other.target = "mylib.optim:Lion", "mylib.optim:Sharp"
    first, *_ = results_table([one, other], results.totals).splitlines()
    assert first.split() == ["mylib.optim:", "Lion", "Sharp"]
    first, *_ = results_table([one], results.totals).splitlines()
    assert first.split() == ["mylib.optim:Lion"]


def test_a_run_without_a_verdict_has_no_table() -> None:
    row = SubjectRow("lib:O", "default", "cpu", "1", "unusable", "no", 0, 0, 1.0, {}, [])
    lines = results_table([row], totals([row], 1.0)).splitlines()
    assert [line.partition(":")[0].strip() for line in lines] == [
        "not judged on cpu",
        "what was tried, and a Subject to fill in",
        "1 subject (0 violated, 1 not judged), 0 trials, 0 judgements, 1.0 s, 0 trials/s",
    ]


def test_one_subject_is_one_everywhere(tmp_path: Path) -> None:
    found = one_subject(InvariantRow("thaw-resumes", "held", "wrong", 5))
    assert "1 subject (0 violated" in results_table(found.subjects, found.totals)
    assert "\n1 subject, 9 trials" in results_markdown(found)
    path = tmp_path / "out.json"
    path.write_bytes(found.to_json())
    _, said = frostproof("report", path, "--markdown", tmp_path / "out.md")
    assert "1 subject, 0 violated" in said


def test_what_was_not_judged_or_not_counted_is_said() -> None:
    found = one_subject(
        InvariantRow("thaw-resumes", "unreached", "wrong", 0),
        InvariantRow("trains-as-alone", "not-applicable", "wrong", 0),
        InvariantRow(
            "freeze-midway-holds", "held", "wrong", 4, explained={"same-without-freezing": 2}
        ),
    )
    found.subjects[0].facts["not-as-alone"] = "it has modes"
    found.subjects[0].facts["raises"] = ["ValueError: no, with lr=0.1"]
    lines = results_table(found.subjects, found.totals).splitlines()
    assert "never judged on cpu: O: thaw-resumes" in lines
    assert "does not apply on cpu: O: trains-as-alone: it has modes" in lines
    fails = "freeze-midway-holds fails with nothing frozen, too (2 times)"
    assert f"not counted on cpu: O: {fails}" in lines
    raises = "with nothing frozen, too, it raises ValueError: no, with lr=0.1"
    assert f"not counted on cpu: O: {raises}" in lines
    few = "few trials on cpu: O: 9, which tell little; try more with --max-examples"
    assert few in lines
    for page in (results_markdown(found), results_page(found, ())):
        assert few in page
        assert f"not counted on cpu: O: {raises}" in page
    assert "Held: `lib:O`." in results_markdown(found)
    found.subjects[0].trials = FEW
    assert "few trials" not in results_table(found.subjects, found.totals)


def test_the_violation_that_names_the_fault_comes_first() -> None:
    order = ("flags-untouched", "trainable-updates-match", "no-state-for-frozen")
    rows = [
        InvariantRow(id, "violated", "cost" if "state" in id else "wrong", 5, 1, f"says {id}")
        for id in sorted(order, reverse=True)
    ]
    found = one_subject(*rows)
    texts = (
        results_table(found.subjects, found.totals).partition("never judged")[2],
        results_markdown(found),
        results_page(found).partition("<h3>Counterexamples")[2],
    )
    for text in texts:
        places = [text.index(id) for id in order]
        assert places == sorted(places), text


def test_the_first_violation_is_drawn_and_a_line_at_fault_is_quoted_once(tmp_path: Path) -> None:
    source = "lib.py:9 in step(): p.mul_(0.9)"
    rows = [
        InvariantRow(id, "violated", "wrong", 5, 1, f"moved; by {source}", source=source)
        for id in ("frozen-weights-unchanged", "gradless-step-is-noop")
    ]
    found = one_subject(*rows)
    for row in rows:
        case = made_up.casefile(found.subjects[0], row.id, row.message, made_up.example(0))
        row.case = str(save(tmp_path, case)[0])
    lines = results_table(found.subjects, found.totals).splitlines()
    first = f"WRONG lib:O on cpu: frozen-weights-unchanged: moved; by {source}"
    second = "WRONG lib:O on cpu: gradless-step-is-noop: moved; by lib.py:9, as above"
    drawing = lines[lines.index(first) : lines.index(second)]
    assert drawing[3] == "        nn.Sequential("
    assert drawing[4].strip() == "nn.Linear(2, 3),  # frozen"
    words = [line.split()[0] for line in drawing[-5:-1]]
    assert words == ["optimizer:", "program:", "start:", "mend:"]
    assert len([line for line in lines if "nn.Sequential" in line]) == 1


def test_a_stale_expectation_is_shown_under_its_own_name() -> None:
    reason = "expected to fail (by design), but held in 5 trials: drop the expectation"
    found = one_subject(InvariantRow("no-state-for-frozen", "violated", "cost", 5, 0, reason))
    text = results_table(found.subjects, found.totals)
    assert re.search(r"^no-state-for-frozen +S 5$", text, re.M)
    assert "\n    S stale: expected to fail, but held\n" in text
    assert f"\nSTALE lib:O on cpu: no-state-for-frozen: {reason}\n" in text
    assert "1 subject (1 violated, " in text
    assert "| stale | **no-state-for-frozen**: " in results_markdown(found)
    page = results_page(found)
    assert '<span class="badge stale">stale</span>' in page
    assert "no-state-for-frozen: stale, expected to fail but held" in page


def test_an_expected_failure_that_was_not_looked_for_to_the_end_is_told() -> None:
    reason = "expected to fail (by design), but not seen in 4 trials, after which its search ended"
    held = one_subject(InvariantRow("thaw-resumes", "held", "wrong", 5)).subjects[0]
    search = one_subject(InvariantRow("thaw-resumes", "unreached", "wrong", 4, 0, reason))
    for rows in ([held, *search.subjects], [*search.subjects, held]):
        (merged,) = merge_rows(rows)
        assert merged.status == "held"
        text = results_table([merged], totals([merged], 1.0))
        assert f"not found: lib:O on cpu: thaw-resumes: {reason}" in text


def test_an_expected_failure_that_only_the_main_search_saw_is_told_as_that() -> None:
    seen = InvariantRow("thaw-resumes", "expected", "wrong", 5, 2, "expected: by design; moved")
    reason = "expected to fail (by design), but held in 4 trials: drop the expectation"
    search = InvariantRow("thaw-resumes", "violated", "wrong", 4, 0, reason)
    for rows in ([seen, search], [search, seen]):
        (merged,) = merge_rows([one_subject(copy.deepcopy(each)).subjects[0] for each in rows])
        (row,) = merged.invariants
        assert (row.status, row.is_stale) == ("violated", False)
        assert (row.message or "").startswith("violated in 2 trials, and in none of the search")


def test_the_severity_is_that_of_the_violation_that_is_shown() -> None:
    wrong = InvariantRow("thaw-resumes", "violated", "wrong", 5, 1, "a.weight does not train")
    crash = InvariantRow("thaw-resumes", "violated", "crash", 5, 1, "step raised KeyError")
    for rows in ([wrong, crash], [crash, wrong]):
        (merged,) = merge_rows([one_subject(copy.deepcopy(each)).subjects[0] for each in rows])
        (row,) = merged.invariants
        assert (row.severity == "crash") == (row.message == crash.message)


def test_seconds_are_told_for_each_phase() -> None:
    one = one_subject(InvariantRow("thaw-resumes", "held", "wrong", 5)).subjects[0]
    other = msgspec.structs.replace(one, phases={"search": 2.04, "probe": 0.5})
    one.phases = {"probe": 0.25, "search": 1.0, "shrink": 3.0}
    (merged,) = merge_rows([one, other])
    text = results_table([merged], totals([merged], 1.0))
    assert "\nseconds: probe 0.8, search 3.0, shrink 3.0\n1 subject" in text


def test_few_optimizers_are_shown_with_the_names_of_the_invariants(doubtful: Results) -> None:
    for number, row in enumerate(doubtful.subjects):
        row.target = f"lib:O{number}"
        row.invariants = [each for each in row.invariants if each.id != "no-graph-below"]
    lines = results_table(doubtful.subjects, doubtful.totals).splitlines()
    judged = [row for row in doubtful.subjects if row.status != "crashed"]
    assert lines[0].startswith("lib: ")
    assert [f"lib:{name}" for name in re.findall(r"O\d", lines[0])] == [
        row.target for row in judged
    ]
    (shown,) = [line for line in lines if line.startswith("thaw-resumes ")]
    statuses = [
        next(each for each in row.invariants if each.id == "thaw-resumes") for row in judged
    ]
    symbols = {"held": ".", "doubtful": "D", "violated": "X", "unreached": "?", "expected": "x"}
    assert re.findall(r"[.DXx?]", shown) == [symbols[each.status] for each in statuses]
    assert not [line for line in lines if "no-graph-below" in line]
    assert max(map(len, lines[:24])) <= 80


def test_results_of_the_first_version_are_still_read(results: Results, tmp_path: Path) -> None:
    old = json.loads(results.to_json())
    assert old["version"] == 1
    del old["totals"]["doubtful"]
    for row in old["subjects"]:
        del row["case"], row["reproducer"]
        for each in row["invariants"]:
            del each["explained"]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old))
    found = load_results(path)
    assert found == results


def test_only_what_version_1_cannot_say_needs_version_2(doubtful: Results, tmp_path: Path) -> None:
    path = tmp_path / "doubtful.json"
    path.write_bytes(doubtful.to_json())
    assert json.loads(path.read_bytes())["version"] == 2
    assert load_results(path).subjects == doubtful.subjects


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a results file"),
        (b"[" * 100_000, "not a results file"),
        (b"[]", "not a results file"),
        (b'{"format": "frostproof-case", "version": 1}', "not a results file"),
        (b'{"format": "frostproof-results", "version": 3}', "upgrade it"),
        (None, "name a results file"),
    ],
)
def test_what_is_no_results_file_gets_one_line(
    content: bytes | None, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_bytes(content)
    code, output = frostproof("report", path, "--html", tmp_path / "x.html")
    assert (code, len(output.splitlines())) == (2, 1)
    assert says in output


def test_a_fact_of_another_type_is_refused(results: Results, tmp_path: Path) -> None:
    spoiled = json.loads(results.to_json())
    spoiled["subjects"][0]["facts"]["partings"] = None
    path = tmp_path / "results.json"
    path.write_text(json.dumps(spoiled))
    code, output = frostproof("report", path)
    assert (code, len(output.splitlines())) == (2, 1)
    assert "Expected `object`, got `null`" in output


def test_a_file_that_cannot_be_written_gets_one_line(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(results.to_json())
    for target in (tmp_path / "none" / "x.html", tmp_path):
        code, output = frostproof("report", path, "--html", target)
        assert (code, len(output.splitlines())) == (2, 1)
        assert "cannot write" in output


@settings(max_examples=100, database=None)
@given(data=st.data())
def test_a_spoiled_results_file_is_refused_in_one_line_or_is_written(
    data: st.DataObject, results: Results, folder: Path
) -> None:
    few = copied(results)
    few.subjects = [few.subjects[0], few.subjects[24]]
    few.subjects[0].invariants = [few.subjects[0].invariants[i] for i in (0, 5, 8)]
    valid = few.to_json()
    path = folder / "spoiled.json"
    path.write_bytes(
        data.draw(
            spoiled_values(json.loads(valid)) | spoiled_bytes(valid) | st.binary(max_size=200)
        )
    )
    said = ""
    try:
        found = merge_results([load_results(path)])
    except UsageError as error:
        said = str(error)
    assert said.isprintable()
    if not said:
        assert Tags(results_page(found, (folder,), few)).tags
        assert results_markdown(found, few)
        assert results_table(found.subjects, found.totals)


def test_what_fails_as_expected_is_not_listed_as_held(results: Results) -> None:
    now = copied(results)
    row = next(row for row in now.subjects if row.status == "held")
    now.subjects = [row]
    assert f"Held: `{row.name}`." in results_markdown(now)
    row.invariants[0].status, row.invariants[0].message = "expected", "it moved"
    text = results_markdown(now)
    assert "as expected" in text
    assert "Held:" not in text


def test_a_row_is_about_one_way_to_freeze(results: Results) -> None:
    row = next(row for row in copied(results).subjects if row.status == "violated")
    broken, right, anew = row, copy.deepcopy(row), copy.deepcopy(row)
    broken.facts["way"], right.facts["way"], anew.facts["way"] = "freeze", "clear", "detach"
    right.status = "held"
    for each in right.invariants:
        each.status, each.violated = "held", 0
    merged = merge_rows([broken, right])
    assert [(each.name.partition(" with ")[2], each.status) for each in merged] == [
        ("--way clear", "held"),
        ("--way freeze", "violated"),
    ]
    before, now = copied(results), copied(results)
    before.subjects, now.subjects = [broken], [anew]
    assert has_new_failure(now, before)
