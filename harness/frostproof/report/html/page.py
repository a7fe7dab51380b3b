"""One self-contained HTML file: the matrix, and for each counterexample a drawing, its program and the commands.

The template escapes whatever it is given; a policy in the page forbids it to load anything, and to run any script but its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from frostproof.report.html.view import STATUS_WORDS, page_context
from frostproof.results.rows import Results


def results_page(
    results: Results, folders: Sequence[Path] = (), baseline: Results | None = None
) -> str:
    """The page. `folders`: where case files and scripts may be read; `baseline`: an earlier run, to show what changed since."""
    return render_template(
        "page.html", "page.js", view=page_context(results, folders, baseline), statuses=STATUS_WORDS
    )


def render_template(template: str, script: str, **values: Any) -> str:
    """A template with these values, and the digests of the style and of the one script that its policy allows."""
    templates = _templates()

    def digest(name: str) -> str:
        text = templates.get_template(name).render()
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return templates.get_template(template).render(
        style_digest=digest("page.css"), script_digest=digest(script), **values
    )


@cache
def _templates() -> Environment:
    loader = PackageLoader("frostproof.report", "html")
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
