"""The page in a real browser: what a reader does with it, and what it must never do."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from frostproof.applications.atlas.page import atlas_page
from frostproof.applications.atlas.record import (
    Atlas,
    AtlasCell,
    LostOptimizer,
    Sameness,
    WayRecord,
)
from frostproof.report.html.page import results_page as rendered
from frostproof.results.rows import Results
from tests.helpers import made_up

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'"
)
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),  # one browser is enough, where xdist is told to heed it
]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
NAMES = (
    "evil:<script>document.title='owned'</script>",
    "a\"b:' onmouseover=alert(1) x='",
    "mylib.optim:Lion",
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 80 optimizers, with what changed since a run in which one held."""
    folder = tmp_path_factory.mktemp("page")
    results = made_up.results(80, 20, folder / "frostproof-cases", NAMES)
    results.subjects[78].status = results.subjects[78].invariants[0].status = "doubtful"
    before = msgspec.json.decode(results.to_json(), type=Results)
    before.subjects[0].invariants[0].status = "held"
    path = folder / "page.html"
    path.write_text(rendered(results, (folder,), before), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Reader:
    """A reader with the page open, who records errors and network requests."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(
            permissions=["clipboard-read", "clipboard-write"], **options
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", self._refuse)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def _refuse(self, dialog: Any) -> None:
        self.faults.append(dialog.message)
        dialog.dismiss()

    @property
    def rows(self) -> int:
        return int(self.page.locator("#matrix tbody tr:not([hidden])").count())

    def shows(self, heading: str | re.Pattern[str] | None) -> None:
        """Wait until the open details have this heading, or until none are open."""
        headings = self.page.locator("article:visible h2")
        if heading is None:
            playwright.expect(headings).to_have_count(0)
        else:
            playwright.expect(headings).to_have_text(heading)

    def color(self, selector: str) -> tuple[int, ...]:
        """Red, green and blue of the background of the first element."""
        text = self.page.locator(selector).first.evaluate(
            "element => getComputedStyle(element).backgroundColor"
        )
        return tuple(
            int(part)
            for part in text.removeprefix("rgba(").removeprefix("rgb(").rstrip(")").split(",")[:3]
        )


@pytest.fixture
def reader(browser: Any, file: Path) -> Iterator[Reader]:
    reader = Reader(browser, file, viewport={"width": 1360, "height": 900})
    yield reader
    assert not reader.faults
    assert [url for url in reader.requests if not url.startswith(("file:", "data:"))] == []
    reader.context.close()


def test_search_and_filters(reader: Reader) -> None:
    page = reader.page
    assert reader.rows == 80
    page.keyboard.press("/")
    page.keyboard.type("optimizer33")
    assert reader.rows == 1
    assert page.locator("#shown").inner_text() == "1 of 80 shown"
    page.keyboard.press("Escape")
    assert reader.rows == 80
    page.locator("#search").fill("no such thing")
    assert page.locator("#none").is_visible()
    page.locator("#reset").click()
    page.locator("button[data-value=violated]").click()
    violated = reader.rows
    assert 0 < violated < 80
    page.locator("button[data-value=thaw-resumes]").click()
    assert 0 < reader.rows <= violated
    page.locator("select[data-filter=device]").select_option("cuda")
    assert {
        row.inner_text() for row in page.locator("#matrix tbody tr:visible td.device").all()
    } == {"cuda"}
    page.locator("#reset").evaluate("button => button.click()")
    page.locator("button[data-value=new]").click()
    assert reader.rows == 1
    page.locator("#reset").evaluate("button => button.click()")
    page.locator("select[data-filter=library]").select_option("mylib")
    assert reader.rows == 1
    page.locator("#reset").evaluate("button => button.click()")
    page.locator("select[data-filter=class]").select_option("groups")
    in_groups = reader.rows
    page.locator("#reset").evaluate("button => button.click()")
    page.locator("select[data-filter=class]").select_option("freezing")
    assert 0 < in_groups <= reader.rows < 80


def test_a_doubtful_verdict_has_a_filter_and_a_colour_of_its_own(reader: Reader) -> None:
    reader.page.locator("button[data-value=doubtful]").click()
    assert reader.rows == 1
    assert (
        len(
            {
                reader.color("#matrix td.doubtful"),
                reader.color("#matrix td.violated a"),
                reader.color("#matrix td.held"),
            }
        )
        == 3
    )


def test_a_counterexample_is_drawn_told_and_copied(reader: Reader) -> None:
    page = reader.page
    page.locator("#matrix td.violated a").first.click()
    reader.shows("frozen-weights-unchanged")
    article = page.locator("article:visible")
    assert article.locator("svg.network .layer").count() >= 5
    assert article.locator("svg.network .tag.frozen").count() >= 2
    assert article.locator("svg.network .tag.named").count() == 1
    assert (
        article.locator("svg.network path.still").count()
        + article.locator("svg.network path.flow").count()
        >= 5
    )
    blue = article.locator("svg.network .layer.frozen rect.box").first.evaluate(
        "box => getComputedStyle(box).fill"
    )
    red, _, ice = (int(part) for part in blue.removeprefix("rgb(").rstrip(")").split(","))
    assert ice > red
    assert article.locator(".timeline li").count() == 7
    assert article.locator(".timeline li.here code").inner_text() == "Step()"
    for number, says in enumerate(("nn.Sequential(", "frostproof replay ", "import torch")):
        article.locator("button.copy").nth(number).click()
        article.locator("button.copy.done").nth(number).wait_for()
        assert page.evaluate("navigator.clipboard.readText()").startswith(says)
    page.keyboard.press("Escape")
    reader.shows(None)


def test_the_keyboard_is_enough(reader: Reader) -> None:
    page = reader.page
    page.locator("#matrix tbody th[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.cellIndex") == 2
    page.keyboard.press("Enter")
    reader.shows("frozen-weights-unchanged")
    first = page.url
    page.keyboard.press("n")
    playwright.expect(page).not_to_have_url(first)
    page.keyboard.press("p")
    playwright.expect(page).to_have_url(first)
    page.keyboard.press("Escape")
    reader.shows(None)
    assert page.evaluate("document.activeElement.cellIndex") == 2
    page.keyboard.press("Home")
    for _ in range(40):
        page.keyboard.press("ArrowDown")
    name = page.evaluate("document.activeElement.querySelector('a').title")
    covered = page.evaluate(
        "document.activeElement.getBoundingClientRect().top"
        " < document.querySelector('thead').getBoundingClientRect().bottom"
    )
    assert not covered
    page.keyboard.press("Enter")
    heading = page.locator("article:visible h2")
    playwright.expect(heading).to_have_count(1)
    assert heading.inner_text()
    assert name.startswith(heading.inner_text())


def test_a_hostile_name_is_only_a_name(reader: Reader) -> None:
    page = reader.page
    assert "owned" not in page.title()
    row = page.locator("#matrix tbody tr", has_text="<script>document.title='owned'</script>")
    row.locator("th a").click()
    reader.shows(NAMES[0])
    page.locator("#matrix tbody tr", has_text="onmouseover").locator("th").hover(force=True)
    image = "<img src=x onerror='document.title = 1'>"
    page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", image)
    assert page.title() != "1"
    assert any("Content Security Policy" in fault for fault in reader.faults)
    reader.faults.clear()  # the browser's own words on what it has just refused


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system(browser: Any, file: Path, scheme: str) -> None:
    reader = Reader(browser, file, color_scheme=scheme)
    brightness = sum(reader.color("body")) / 3
    assert brightness > 200 if scheme == "light" else brightness < 60
    assert not reader.faults
    reader.context.close()


def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser: Any, file: Path) -> None:
    reader = Reader(
        browser, file, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True
    )
    page = reader.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("#matrix td.violated a").first.click()
    article = page.locator("article:visible")
    assert article.bounding_box()["width"] <= 360
    assert article.locator("svg.network").bounding_box()["width"] > 250
    page.locator("a.close").click()
    reader.shows(None)
    first = page.locator("#matrix tbody th").first
    left = first.bounding_box()["x"]
    page.locator(".matrix").evaluate("box => box.scrollLeft = 400")
    assert first.bounding_box()["x"] == left
    assert not reader.faults
    reader.context.close()


def test_without_scripts_the_details_still_open(browser: Any, file: Path) -> None:
    reader = Reader(browser, file, java_script_enabled=False)
    reader.page.locator("#matrix td.violated a").first.click()
    reader.shows("frozen-weights-unchanged")
    reader.context.close()


@pytest.fixture(scope="module")
def atlas_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small atlas with names that would like to be markup."""
    example = {"case": made_up.example(0), "script": made_up.SCRIPT}

    def cell(target: str, left: str, right: str, verdict: Sameness, **fields: Any) -> AtlasCell:
        return AtlasCell(target, "default", "linear", left, right, verdict, 7).replaced(**fields)

    clipping = {"different": 1, "cause": "clipping", "message": "1 -> 2", **example}
    markup = {"different": 3, "cause": "a </script><b>cause</b>", "message": "0.5", **example}
    cells = [
        cell(NAMES[0], "A", "B", "different", **markup),
        cell(NAMES[0], "A", "B-second", "equivalent"),
        cell(NAMES[0], "B", "B-second", "different", **clipping),
        cell(NAMES[2], "A", "B", "equivalent"),
        cell(NAMES[2], "A", "B", "rounding", family="recurrent", ulp=2.0),
    ]
    ways = [
        WayRecord("A", "does <this>", {"any": True, "gradients": False}),
        WayRecord("B", "that", {"any": True, "raises": "<oh>"}),
        WayRecord("B-second", "it", {}),
    ]
    lost = [LostOptimizer("lib:Lost", "default", "it took more than 600 s")]
    atlas = Atlas(
        made_up.results(1, 0, tmp_path_factory.mktemp("none"), NAMES).environment,
        ways,
        cells,
        lost,
        12.0,
    )
    path = tmp_path_factory.mktemp("atlas") / "atlas.html"
    path.write_text(atlas_page(atlas), encoding="utf-8")
    return path


def test_the_atlas_is_one_page_that_asks_for_nothing(browser: Any, atlas_file: Path) -> None:
    reader = Reader(browser, atlas_file)
    assert reader.page.title() == "The atlas of freezing · frostproof"
    assert reader.page.locator("svg").count() >= 2
    assert "lib:Lost: it took more than 600 s" in reader.page.locator("main").inner_text()
    assert reader.requests == [atlas_file.as_uri()]
    assert reader.faults == []


def test_the_matrix_of_the_atlas_follows_optimizer_and_family(
    browser: Any, atlas_file: Path
) -> None:
    reader = Reader(browser, atlas_file)
    cells = reader.page.locator("#matrix tbody td")

    def signs() -> list[str]:
        return [text.strip() for text in cells.all_inner_texts()]

    optimizer, family = (reader.page.locator("select").nth(place) for place in (0, 1))
    assert signs() == ["", "≠", "=", "≠", "", "≠", "=", "≠", ""]
    assert reader.page.locator("#shown").inner_text() == "2 of 3 pairs differ"
    optimizer.select_option(NAMES[2])
    assert signs() == ["", "≈", "", "≈", "", "", "", "", ""]
    family.select_option("linear")
    assert signs() == ["", "=", "", "=", "", "", "", "", ""]
    optimizer.select_option(NAMES[0])
    family.select_option("recurrent")
    assert set(signs()) == {""}
    assert reader.faults == []


def test_a_cell_of_the_atlas_opens_its_causes(browser: Any, atlas_file: Path) -> None:
    reader = Reader(browser, atlas_file)
    reader.page.locator("#matrix tbody td a", has_text="≠").first.click()
    reader.shows("A and B")
    article = reader.page.locator("article:visible")
    assert "a </script><b>cause</b>" in article.inner_text()
    article.locator("button.copy").first.click()
    assert reader.page.evaluate("navigator.clipboard.readText()") == made_up.SCRIPT
    reader.page.keyboard.press("Escape")
    reader.shows(None)
    assert reader.faults == []
