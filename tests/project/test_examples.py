"""The examples in the docstrings of the package give what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import frostproof
from frostproof.approaches.approach import RequiresGrad
from frostproof.spec import layers
from frostproof.spec.architecture import Architecture, Input

NAMES = vars(layers) | {
    "Architecture": Architecture,
    "Input": Input,
    "RequiresGrad": RequiresGrad,
}
"""What an example may use beside the names of its own module."""


def examples() -> list[doctest.DocTest]:
    """Every docstring of the package that has an example."""
    found: list[doctest.DocTest] = []
    root = Path(frostproof.__file__).parent
    finder = doctest.DocTestFinder(exclude_empty=True)
    for path in sorted(root.rglob("*.py")):
        if ">>>" in path.read_text(encoding="utf-8"):
            name = ".".join(("frostproof", *path.relative_to(root).with_suffix("").parts))
            module = import_module(name)
            found += (each for each in finder.find(module, name) if each.examples)
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_an_example_gives_what_it_says(example: doctest.DocTest) -> None:
    assert not any(doctest.SKIP in each.options for each in example.examples)
    example.globs = NAMES | example.globs
    said: list[str] = []
    failed, _ = doctest.DocTestRunner().run(example, out=said.append)
    assert not failed, "".join(said)
