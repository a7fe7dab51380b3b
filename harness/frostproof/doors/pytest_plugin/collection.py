"""Collection: which of our tests are run, and what each of them verifies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from frostproof.doors.pytest_plugin.items import PACKAGE, is_ours, verification_of
from frostproof.doors.pytest_plugin.options import RunOptions
from frostproof.errors import FrostproofError
from frostproof.process.quiet import quiet


class Collection:
    def __init__(self, config: pytest.Config, run: RunOptions) -> None:
        self.config, self.run = config, run

    def pytest_pycollect_makemodule(self, module_path: Path, parent: Any) -> pytest.Module | None:
        """Give the tests of an installed suite the same ids on every machine."""
        if module_path.parent.name != PACKAGE or not self.config.getoption("pyargs"):
            return None
        node_id = f"{PACKAGE}/{module_path.name}"
        return pytest.Module.from_parent(parent, path=module_path, nodeid=node_id)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "verification" in metafunc.fixturenames and metafunc.module.__name__.startswith(PACKAGE):
            with quiet():
                self._parametrize(metafunc)

    def _parametrize(self, metafunc: pytest.Metafunc) -> None:
        from frostproof.doors.pytest_plugin.suite import verification_params

        make_targets_importable(self.config)
        try:
            values = verification_params(metafunc.function.__name__, self.run)
        except FrostproofError as error:
            raise pytest.UsageError(f"frostproof: {error}") from None
        metafunc.parametrize("verification", values)

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave out the tests of torch itself if targets are given: the user asks about those."""
        return True if self.run.optimizers and _is_about_torch(collection_path) else None

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Iterator[None]:
        """Deselect what `pytest_ignore_collect` cannot, and tests that have nothing to verify.

        pytest does not call that hook for files that are named on the command line.

        For tests of Hypothesis, its plugin now reads the source of all modules that are not
        installed, for numbers to draw. Our searches draw none of these.
        """
        left_out = [
            item
            for item in items
            if (self.run.optimizers and _is_about_torch(item.path)) or _is_empty(item)
        ]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]
        if not all(is_ours(item) and verification_of(item) is not None for item in items):
            yield
            return
        from frostproof.generation.draws import drawn_by_seed_alone

        with drawn_by_seed_alone():
            yield


def _is_about_torch(path: Path) -> bool:
    """Whether a file has tests of ours about torch, not about optimizers that a user can name."""
    return (
        path.parent.name == PACKAGE
        and path.name.startswith("test_")
        and path.name != "test_optimizers.py"
    )


def _is_empty(item: pytest.Item) -> bool:
    """Whether one of our tests has no parameters; pytest makes an item of it, only to skip it."""
    return (
        is_ours(item)
        and (value := verification_of(item)) is not None
        and not hasattr(value, "tallies")
    )


def make_targets_importable(config: pytest.Config) -> None:
    """Put the folder from which pytest was called first on the path, as `python -m` does.

    When pytest imports our installed tests, it puts the folder of installed libraries first. An old
    copy of the user's library would then be verified. Of a checkout of ours it adds the root, whose
    `tests` would then be taken for the user's. Who wants that names it in PYTHONPATH.
    """
    folder, checkout = str(config.invocation_params.dir), str(Path(__file__).parents[4])
    unwanted = {folder} | {checkout}.difference(os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if sys.path[:1] != [folder] or unwanted.intersection(sys.path[1:]):
        sys.path[:] = [folder, *(each for each in sys.path if each not in unwanted)]
