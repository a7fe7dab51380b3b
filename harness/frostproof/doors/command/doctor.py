"""`frostproof doctor`: what a report of a bug needs to know about this environment."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from frostproof.doors.pytest_plugin.options import OPTIONS, RunOptions, value_of
from frostproof.errors import FrostproofError
from frostproof.process.fork_server import forking
from frostproof.process.quiet import quiet

LIBRARIES = ("hypothesis", "pytest", "pytest-xdist", "msgspec", "click", "jinja2")

CONFLICTS = {
    "forked": "--forked loses the results of every optimizer: leave it out",
    "timeout": "pytest-timeout cuts searches short: use --frostproof-timeout instead",
    "reruns": "--reruns verifies each optimizer that fails again: leave it out",
    "cov_source": "--cov makes every trial slower: leave it out",
    "maxfail": "-x and --maxfail end the run at the first optimizers that fail",
}
"""Options of pytest and its plugins that spoil a run, by pytest's names -> what to do."""


class _ConfigReader:
    """A plugin of pytest that keeps the configuration of this folder, and runs nothing."""

    config: pytest.Config

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        self.config = config
        return 0


@click.command("doctor")
def doctor_command() -> None:
    """Describe this environment, to paste into the report of a bug.

    It names versions, devices, threads, the bug of kernels on record, the options that pytest's
    configuration sets, whether the databases of failures answer, and plugins of pytest with options
    that spoil a run. Exit code 0; 2: the configuration is wrong.
    """
    with forking(["torch"]) as server:  # Torch may start threads when it is imported.
        forks = server is not None
    reader = _ConfigReader()
    if pytest.main([], plugins=[reader]):
        raise click.UsageError("pytest cannot read its configuration in this folder")
    with quiet():
        for name, text in (*_versions(), *_machine(reader.config, forks), *_run(reader.config)):
            click.echo(f"{name:15} {text}".rstrip())


def _versions() -> Iterator[tuple[str, str]]:
    import torch

    import frostproof

    yield "frostproof", f"{version('frostproof')} in {Path(frostproof.__file__).parent}"
    yield "python", f"{platform.python_version()}, {platform.platform()}"
    yield "torch", str(torch.__version__)
    yield "libraries", ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


def _machine(config: pytest.Config, forks: bool) -> Iterator[tuple[str, str]]:
    import torch

    from frostproof.doors.pytest_plugin.suite import kernels_show_it
    from frostproof.process.device import describe_devices

    for line in describe_devices():
        yield "device", line
    yield "threads", f"{torch.get_num_threads()} of torch here, 1 in a worker"
    count = config.hook.pytest_xdist_auto_num_workers(config=config)
    started = "forks of one process" if forks else "started anew, because no process can fork here"
    yield "workers", f"{count} with -n auto, {started}"
    shown = "shows" if kernels_show_it() else "does not show"
    yield "kernels", f"the bug of oneDNN on record {shown} here"


def _run(config: pytest.Config) -> Iterator[tuple[str, str]]:
    from frostproof.doors.pytest_plugin.example_database import open_database, without_password

    yield "configuration", str(config.inipath or "none")
    for option in OPTIONS:
        if value := value_of(config, option):
            values = value if option.many else [value]
            yield "", f"{option.name}: {', '.join(without_password(str(each)) for each in values)}"
    try:
        databases = RunOptions.of(config).databases
        faults: list[str] = []
        list(open_database(databases, faults.append).fetch(b"frostproof doctor"))
    except FrostproofError as error:
        raise click.UsageError(str(error)) from None
    layers = ", ".join(["the local folder", *map(without_password, databases)])
    yield "failures", "; ".join(faults) or f"remembered in {layers}; all answer"
    plugins = config.pluginmanager.list_plugin_distinfo()
    yield "pytest plugins", ", ".join(sorted({f"{d.project_name} {d.version}" for _, d in plugins}))
    for name, advice in CONFLICTS.items():
        if _is_set(config, name):
            yield "conflict", advice


def _is_set(config: pytest.Config, name: str) -> bool:
    value = config.getoption(name, None)
    if value is None:
        try:
            value = config.getini(name)
        except (KeyError, ValueError):  # The plugin that has it is absent.
            return False
    return bool(value) and str(value) != "0"
