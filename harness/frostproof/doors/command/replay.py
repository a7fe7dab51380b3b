"""`frostproof replay`: saved counterexamples, run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from frostproof.doors.command.parameters import import_from_here
from frostproof.errors import FrostproofError, UsageError, one_line
from frostproof.process.quiet import quiet

if TYPE_CHECKING:
    from frostproof.spec.casefile import CaseFile
    from frostproof.verification.replay import ReplayVerdict

EXIT_CODES = {"FIXED": 0, "AS EXPECTED": 0, "STILL VIOLATED": 1, "DOUBTFUL": 4, "NOT JUDGED": 5}
WORST_FIRST = (1, 2, 4, 5, 0)


@click.command("replay")
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path)
)
@click.option(
    "--target",
    metavar="TARGET",
    help="Run the cases with the optimizer module:Name in the place of their own, as with a copy "
    "that was mended.",
)
@click.option(
    "--way",
    metavar="module:name",
    help="Run the cases of a way to freeze with this one in its place, as with a copy that was "
    "mended.",
)
def replay_files_command(files: tuple[Path, ...], target: str | None, way: str | None) -> int:
    """Run saved counterexamples again. Each is FIXED, STILL VIOLATED or AS EXPECTED.

    Exit code 0: all are fixed, or violated as was stated; 1: some are still violated; 2: a file is
    not a case; 4: a script does not show the violation; 5: a case could not be judged.
    """
    from frostproof.process.fork_server import forking

    import_from_here()
    with forking(("torch._dynamo", "frostproof.verification.replay")):
        codes = {_exit_code(path, target, way) for path in files}
    return next(code for code in WORST_FIRST if code in codes)


def _exit_code(path: Path, target: str | None, way: str | None) -> int:
    """Run a case again, and print what it shows."""
    try:
        saved, verdict = _replay(path, target, way)
    except FrostproofError as error:  # The other files are still run.
        click.echo(f"frostproof: {error}", err=True)
        return 2
    variant = "" if saved.variant == "default" else f" {saved.variant}"
    text = f"{path}: {saved.target}{variant} on {saved.device}, {saved.invariant}"
    click.echo(f"{verdict.outcome} {one_line(text)}")
    if verdict.text:
        click.echo(f"    {one_line(verdict.text)}")
    return EXIT_CODES[verdict.outcome]


def _replay(path: Path, target: str | None, way: str | None) -> tuple[CaseFile, ReplayVerdict]:
    from frostproof.spec.casefile import load_case

    beside = path.with_suffix(".json")
    if path.suffix == ".py" and beside.is_file():
        raise UsageError(f"{str(path)!r} is a script, to run with Python: replay {str(beside)!r}")
    saved = load_case(path)
    if way and not saved.way:
        raise UsageError(f"{str(path)!r} is not a case of a way to freeze: leave out --way")
    saved = msgspec.structs.replace(saved, target=target or saved.target, way=way or saved.way)
    with quiet():
        from frostproof.verification.replay import replay
    try:
        return saved, replay(saved)
    except FrostproofError as error:
        raise type(error)(one_line(f"{one_line(str(path), 160)}: {error}")) from None
