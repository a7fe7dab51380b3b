"""The pytest plugin: its options, and the plugins that it registers in the controller or a worker.

A process that is not a worker of pytest-xdist is the controller, also where there are no workers.

Every pytest run loads this module where frostproof is installed. It and all that it imports at the
top therefore import neither torch nor Hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from frostproof.doors.pytest_plugin import options
from frostproof.doors.pytest_plugin.collection import Collection, make_targets_importable
from frostproof.doors.pytest_plugin.controller import Controller
from frostproof.doors.pytest_plugin.crashes import CrashPolicy
from frostproof.doors.pytest_plugin.decorated_tests import DecoratedTests
from frostproof.doors.pytest_plugin.gatherer import Gatherer
from frostproof.doors.pytest_plugin.item_runner import ItemRunner
from frostproof.doors.pytest_plugin.items import PACKAGE
from frostproof.doors.pytest_plugin.live_line import LiveLine, is_watched
from frostproof.doors.pytest_plugin.options import RunOptions
from frostproof.doors.pytest_plugin.remote_workers import RemoteWorkers
from frostproof.doors.pytest_plugin.trial_counts import CountsWriter
from frostproof.doors.pytest_plugin.worker import WorkerItemRunner
from frostproof.errors import FrostproofError
from frostproof.process.quiet import quiet
from frostproof.spec.setting import EAGER
from frostproof.verification.profiles import shards_for


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Generator[None, int, int]:
    """With `-n auto`, start no more processes than there are items, or an accelerator has room for.

    The items are known where the session is our suite and nothing else. Few are split into shards.
    """
    cores = yield
    if not options.asks_for_us(config):
        return cores
    make_targets_importable(config)
    try:
        with quiet():
            from frostproof.process.device import most_workers

            run = RunOptions.of(config)
            most = most_workers(run.devices)
            workers = cores if most is None else min(cores, most)
            items = _items_in(_sharded(config, run, workers), config)
    except FrostproofError:
        return cores  # The controller reports the error when the session starts.
    return max(1, workers if items is None else min(workers, items))


def _items_in(run: RunOptions, config: pytest.Config) -> int | None:
    """The number of items; None if it is not known before they are collected."""
    if config.args != [PACKAGE] or not run.optimizers:
        return None
    from frostproof.doors.pytest_plugin.suite import number_of_items

    return number_of_items(run)


def _sharded(config: pytest.Config, run: RunOptions, workers: int) -> RunOptions:
    """The options, with shards for workers that would be idle, unless their number was given."""
    given = options.value_of(config, options.SHARDS) is not None
    slow = any(setting != EAGER.name for setting in run.settings)
    items = None if given or slow or workers < 2 else _items_in(run, config)
    return run if items is None else replace(run, shards=shards_for(workers, items, run.examples))


@pytest.fixture
def frostproof_watch() -> Iterator[Callable[..., Any]]:
    """As `frostproof.watch`, until the end of the test: call it, and train."""
    from frostproof.applications.watching.watch import watch

    with ExitStack() as watches:
        yield lambda *given, **named: watches.enter_context(watch(*given, **named))


def pytest_configure(config: pytest.Config) -> None:
    worker_input = getattr(config, "workerinput", None)
    try:
        plugins = (
            _controller_plugins(config)
            if worker_input is None
            else _worker_plugins(config, worker_input)
        )
    except FrostproofError as error:
        raise pytest.UsageError(f"frostproof: {error}") from None
    for name, plugin in plugins.items():
        config.pluginmanager.register(plugin, f"frostproof-{name}")


def _controller_plugins(config: pytest.Config) -> dict[str, object]:
    run = RunOptions.of(config)
    if options.asks_for_us(config):
        make_targets_importable(config)
        with quiet():
            run = _sharded(config, run, config.getoption("numprocesses", None) or 1)
    gatherer = Gatherer(run)
    controller = Controller(config, run, gatherer)
    plugins: dict[str, object] = {
        "collection": Collection(config, run),
        "controller": controller,
        "crashes": CrashPolicy(config, run, gatherer),
        "decorated-tests": DecoratedTests(run, controller.seed),
        "item-runner": ItemRunner(config, run, controller.seed, controller.time_left()),
        "remote-workers": RemoteWorkers(gatherer.warn),
    }
    if is_watched() and config.get_verbosity() <= 0:
        line = LiveLine(run)
        plugins |= {"live-line": line, "trial-counts": CountsWriter(line.folder)}
    return plugins


def _worker_plugins(config: pytest.Config, worker_input: dict[str, Any]) -> dict[str, object]:
    run = RunOptions(**worker_input["frostproof_run"])
    plugins: dict[str, object] = {
        "collection": Collection(config, run),
        "decorated-tests": DecoratedTests(
            run, worker_input["frostproof_seed"], Path(worker_input["frostproof_notes"])
        ),
        "item-runner": WorkerItemRunner(config, run, worker_input),
    }
    if folder := worker_input.get("frostproof_counts"):
        plugins["trial-counts"] = CountsWriter(Path(folder))
    return plugins
