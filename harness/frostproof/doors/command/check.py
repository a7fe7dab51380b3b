"""`frostproof check`: a thin door to pytest."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click

from frostproof.doors.command.parameters import import_from_here
from frostproof.doors.pytest_plugin.options import OPTIONS
from frostproof.process.quiet import quiet

SUITE = (
    "--pyargs",
    "frostproof_properties",
    "--override-ini=python_files=test_*.py",
    "--override-ini=python_functions=test_*",
    # This process has imported the package of the plugin already.
    "--pythonwarnings=ignore::pytest.PytestAssertRewriteWarning",
)
"""pytest's arguments for the property suite.

They hold wherever it is installed, and however the user's project collects its own tests.
"""


def _options_of_the_plugin(command: Any) -> Any:
    for option in reversed(OPTIONS):
        if option.name == "optimizer":
            continue
        text = f"{option.help[0].upper()}{option.help[1:]}."
        name = f"--{option.name}"
        if option.kind is bool:
            command = click.option(name, is_flag=True, help=text)(command)
        else:
            add = click.option(
                name, type=option.kind, multiple=option.many, metavar=option.metavar, help=text
            )
            command = add(command)
    return command


@click.command("check", epilog="The arguments after `--` go to pytest.")
@click.argument("targets", nargs=-1, metavar="TARGET... [-- PYTEST_ARGS]")
@click.option(
    "--zoo",
    is_flag=True,
    help="Verify every optimizer of the installed libraries of the extra `zoo`.",
)
@click.option(
    "--jobs",
    default="auto",
    show_default=True,
    metavar="auto|N",
    help="Processes to use. 0 runs all in this one, so that a crash of an optimizer ends the run.",
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Show how optimizers are used, and what was explained away. `-- -vv` shows all that "
    "Hypothesis says.",
)
@_options_of_the_plugin
@click.pass_context
def check_command(
    context: click.Context,
    /,
    targets: tuple[str, ...],
    jobs: str,
    verbose: bool,
    zoo: bool,
    **given: Any,
) -> int:
    """Verify each TARGET: `module:Name`, or `module:*` for every optimizer class of the module.

    Exit code 0: everything held; 1: something is violated or crashed; 2: wrong usage; 3: an error
    of pytest or its plugins; 4: something is doubtful, because its own script does not show it,
    and nothing is worse; 5: a named target was not judged; 130: interrupted.
    """
    targets, pytest_args = _split(targets, context)
    if zoo:
        targets = (*targets, *zoo_targets())
    if not targets:
        raise click.UsageError("no target: name a TARGET as module:Name")
    if not (jobs == "auto" or jobs.isdigit()):
        raise click.BadParameter(f"--jobs is {jobs!r}: give auto or a number")
    import pytest

    from frostproof.doors.command.listener import Listener
    from frostproof.doors.pytest_plugin.forked_workers import PRELOADED, ForkedWorkers
    from frostproof.process.fork_server import forking

    import_from_here()
    says_verbosity = any(re.fullmatch("-v+|--verbose", each) for each in pytest_args)
    verbosity = ["-v"] if verbose else [] if says_verbosity else ["-q"]
    remote = any(argument.startswith("--tx") for argument in pytest_args)
    # Another --dist in the user's configuration could not run an item again after a crash. It may
    # also have `-p no:xdist`, which the last -p takes back.
    workers = [
        "-p",
        "xdist",
        "--dist=load",
        *([] if remote else [f"--numprocesses={jobs}"]),
        "--maxschedchunk=1",
    ]
    options = [f"--frostproof-optimizer={target}" for target in targets] + [*_options(given)]
    arguments = [*SUITE, *verbosity, *options, *workers, *pytest_args]
    listener = Listener()
    with forking(PRELOADED) as server:
        forked = [ForkedWorkers(server)] if server is not None and jobs != "0" else []
        code = pytest.main(arguments, plugins=[listener, *forked])
    return listener.exit_code(int(code))


def _options(given: dict[str, Any]) -> Iterator[str]:
    """The options of the plugin for these options of the command."""
    for name, value in given.items():
        option = f"--frostproof-{name.replace('_', '-')}"
        if value is True:
            yield option
        elif value is not None and value is not False:
            values = value if isinstance(value, tuple) else (value,)
            yield from (f"{option}={each}" for each in values)


def _split(words: tuple[str, ...], context: click.Context) -> tuple[tuple[str, ...], list[str]]:
    """Return the targets, and the arguments after `--`.

    click drops the `--`, so it is looked for in the words as they were given.
    """
    given: list[str] = context.obj or sys.argv[1:]
    behind = given[given.index("--") + 1 :] if "--" in given else []
    return words[: len(words) - len(behind)] if behind else words, behind


def zoo_targets() -> list[str]:
    """The targets of `--zoo`. Libraries that are absent or broken are left out, which is told."""
    with quiet():
        from frostproof.optimizers import zoo

    targets = zoo.installed_targets()
    if not targets:
        raise click.UsageError("no library of the zoo is installed: pip install 'frostproof[zoo]'")
    if missing := zoo.missing_libraries():
        click.echo(f"frostproof: not installed, and left out: {', '.join(missing)}", err=True)
    faults = _import_faults([target.partition(":")[0] for target in targets])
    for module, fault in faults.items():
        click.echo(f"frostproof: left out: importing {module} raises {fault}", err=True)
    return [target for target in targets if target.partition(":")[0] not in faults]


_IMPORTS = """import importlib, os, sys
out, sys.stdout = sys.stdout, open(os.devnull, "w")
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # the library is left out for it
        print(name, f"{type(error).__name__}: {error}".splitlines()[0], sep="\\t", file=out)
"""


def _import_faults(modules: list[str]) -> dict[str, str]:
    """Each module that cannot be imported, and what that raises, tried in another process."""
    words = [sys.executable, "-W", "ignore", "-c", _IMPORTS, *modules]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    told = (line.partition("\t") for line in done.stdout.splitlines())
    return {module: fault for module, _, fault in told if module in modules}
