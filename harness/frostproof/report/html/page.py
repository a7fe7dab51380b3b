"""One self-contained HTML file: the matrix, and for each counterexample its network and program.

The templates escape every value. A policy in the page forbids it to load anything, and to run any
script but its own.
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
    """The page of a run.

    Case files and scripts are read from `folders`; `baseline` is an earlier run, of which the
    page shows the changes.
    """
    context = page_context(results, folders, baseline)
    return render_template("page.html", "page.js", view=context, statuses=STATUS_WORDS)


def render_template(template: str, script: str, **values: Any) -> str:
    """Fill a template. The policy of the page gets the digests of the style and of the script."""
    templates = _templates()

    def digest(name: str) -> str:
        text = templates.get_template(name).render()
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return templates.get_template(template).render(
        style_digest=digest("page.css"), script_digest=digest(script), **values
    )


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("frostproof.report", "html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
