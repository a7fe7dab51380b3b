"""Options that several commands have."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def path_option(name: str, text: str, metavar: str = "FILE") -> Callable[[Any], Any]:
    """An option that names a file or a folder; `text` is its help."""
    return click.option(name, help=text, metavar=metavar, type=click.Path(path_type=Path))


json_option = path_option("--json", "Write the results to this file.")
markdown_option = path_option("--markdown", "Write a summary to this file.")
html_option = path_option("--html", "Write one self-contained page to this file.")
baseline_option = path_option(
    "--baseline", "Results of an earlier run: report what is new, fixed and still there."
)
seed_option = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the search."
)

input_option = click.option(
    "--input",
    "inputs",
    help="A batch, if the factory returns none: its sizes, as 8,3,32,32, or module:name of a "
    "function that returns one.",
    metavar="SHAPE",
)
step_option = click.option(
    "--training-step",
    "step",
    help="module:name of a function of the model and a batch that returns the loss.",
    metavar="FUNCTION",
)
freeze_option = click.option(
    "--freeze",
    multiple=True,
    help="Parameters to freeze: a glob on their names, or a module; may be repeated, with "
    "'!PATTERN' for what is left out.",
    metavar="PATTERN",
)


def import_from_here() -> None:
    """Let targets be imported from the current folder, as `python -m` does."""
    sys.path.insert(0, str(Path.cwd()))
