"""Imports run one way: from each package only to those before it, and never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import frostproof
from frostproof.spec.ids import IDS

ROOT = Path(frostproof.__file__).parent
PACKAGES = (
    "errors",
    "spec",
    "process",
    "approaches",
    "generation",
    "training",
    "invariants",
    "trial",
    "optimizers",
    "results",
    "counterexamples",
    "verification",
    "report",
    "applications",
    "doors",
)
"""The packages in the order of the data: each may import those before it."""

TORCH_FREE = (
    "errors",
    "spec.architecture",
    "spec.case",
    "spec.casefile",
    "spec.ids",
    "spec.layers",
    "spec.program",
    "spec.setting",
    "spec.subject",
    "generation.cases",
    "invariants.registry",
    "results.baseline",
    "results.files",
    "results.rows",
    "verification.deaths",
    "verification.item_report",
    "verification.profiles",
    "report.files",
    "report.html.page",
    "report.markdown",
    "report.terminal",
    "doors.command.main",
    "doors.pytest_plugin.plugin",
)
"""Modules without torch: data, readers of files, and those that gather results."""

FILES = {
    ".".join(("frostproof", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in ROOT.rglob("*.py")
}


def imported(path: Path) -> Iterator[str]:
    """Yield every module of ours that a file imports, for types alone and inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which this test cannot follow"
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [each if each in FILES else str(node.module) for each in members]
        yield from (name for name in names if name in FILES)


GRAPH = {module: {*imported(path)} - {module} for module, path in FILES.items()}
GRAPH["frostproof.invariants.registry"] |= {
    f"frostproof.invariants.{identity.replace('-', '_')}" for identity in IDS
}


def package(module: str) -> str:
    return module.split(".")[1]


def test_the_listing_is_the_architecture() -> None:
    listed = {path.stem for path in ROOT.iterdir() if path.suffix in ("", ".py")} - {"__pycache__"}
    assert listed == {*PACKAGES, "__init__", "__main__"}
    for path in FILES.values():
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_no_module_imports_itself_in_a_circle() -> None:
    TopologicalSorter(GRAPH).prepare()  # raises CycleError, which names the circle


def test_each_package_imports_only_what_stands_before_it() -> None:
    inner = {
        module: found for module, found in GRAPH.items() if module.count(".") and "__" not in module
    }
    upward = [
        f"{module} imports {each}"
        for module, found in inner.items()
        for each in found
        if "." in each and PACKAGES.index(package(each)) > PACKAGES.index(package(module))
    ]
    assert upward == []


def test_every_invariant_has_its_file() -> None:
    from frostproof.invariants.registry import INVARIANTS

    assert tuple(invariant.id for invariant in INVARIANTS) == IDS


def test_what_promises_to_do_without_torch_does() -> None:
    code = f"import sys, importlib\nfor name in {TORCH_FREE!r}:\n"
    code += "    importlib.import_module('frostproof.' + name)\n"
    code += "    assert 'torch' not in sys.modules, name"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
