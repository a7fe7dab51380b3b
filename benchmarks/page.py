"""How long Chromium takes to load the page of 200 optimizers and 50 counterexamples.

Usage: python -m benchmarks.page [RUNS]. Needs Chromium and the dev extra. The time of an empty page
is printed beside it. A page counts as loaded once a frame was painted after its load event.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from frostproof.report.html.page import results_page
from tests.helpers import made_up
from tests.report.test_page import ARGUMENTS, CHROMIUM

PAINTED = "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"


def load(browser: Any, path: Path) -> float:
    tab = browser.new_context().new_page()
    started = time.perf_counter()
    tab.goto(path.as_uri())
    tab.evaluate(PAINTED)
    seconds = time.perf_counter() - started
    tab.context.close()
    return seconds


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        folder = Path(name)
        results = made_up.results(200, 50, folder / "frostproof-cases")
        started = time.perf_counter()
        full, empty = folder / "page.html", folder / "empty.html"
        full.write_text(results_page(results, (folder,)), encoding="utf-8")
        written = time.perf_counter() - started
        empty.write_text("<!doctype html><title>empty</title>")
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        load(browser, full), load(browser, empty)
        pairs = [(load(browser, full), load(browser, empty)) for _ in range(runs)]
        browser.close()
        print(f"written in {written:.2f} s, {full.stat().st_size / 1e6:.2f} MB")
        full_times, empty_times = zip(*pairs, strict=True)
        median, worst = statistics.median(full_times), max(full_times)
        print(f"the page: median {median:.2f} s, worst {worst:.2f} s")
        print(f"an empty page: median {statistics.median(empty_times):.2f} s")


if __name__ == "__main__":
    main()
