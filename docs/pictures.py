"""Makes the two pictures of the README: what its command prints, and the page that it writes.

Usage, in the folder of the project: python docs/pictures.py

It needs `pip install rich playwright` and Chromium.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).parent
COMMAND = "frostproof check mylib.optim:Lion --device cpu --seed 1"
COLUMNS = 110


def main() -> None:
    tutorial = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    lion = re.search(r"^```python\n(.*?)^```$", tutorial, re.M | re.S)
    assert lion is not None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "mylib").mkdir()
        (folder / "mylib" / "optim.py").write_text(lion[1], encoding="utf-8")
        words = [sys.executable, "-m", *COMMAND.split(), "--html", "report.html"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stdout + done.stderr
        draw_terminal(done.stdout)
        photograph(folder / "report.html")


def draw_terminal(printed: str) -> None:
    """Draw the table and the first violation, as a terminal of COLUMNS columns shows them."""
    lines = printed[printed.index("= frostproof =") :].splitlines()[1:]
    second = [i for i, line in enumerate(lines) if line.startswith("WRONG")][1]
    console = Console(record=True, width=COLUMNS, file=sys.stderr, force_terminal=True)
    console.print(Text(f"$ {COMMAND}", style="bold"), Text("..."), sep="\n")
    for line in [*lines[:second], "...", lines[-1]]:
        bad = line.startswith("WRONG") or " X " in line
        console.print(Text(line, style="red" if bad else ""), highlight=False)
    drawn = console.export_svg(title="frostproof")
    # Fonts from elsewhere: the reader's own serve.
    drawn = re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.S)
    (DOCS / "terminal.svg").write_text(drawn, encoding="utf-8")


def photograph(page: Path) -> None:
    """Take a picture of the page, with its first counterexample open."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    arguments = ["--no-sandbox", "--disable-background-networking"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        view = browser.new_page(viewport={"width": 1000, "height": 1100})
        view.goto(page.as_uri())
        view.keyboard.press("n")
        view.keyboard.press("Enter")
        view.wait_for_timeout(500)
        view.screenshot(path=str(DOCS / "report.png"))
        browser.close()


if __name__ == "__main__":
    main()
