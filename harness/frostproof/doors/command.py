"""The command line: a thin door to pytest. `--help` and `list invariants` do not wait for torch."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frostproof.errors import FrostproofError, UsageError, one_line
from frostproof.process.quiet import quiet
from frostproof.verification.profiles import PROFILES

if TYPE_CHECKING:
    from frostproof.spec.casefile import CaseFile
    from frostproof.verification.replay import ReplayVerdict

EXIT_CODES = {0: 0, 1: 1, 2: 130, 3: 3, 4: 2, 5: 5}
"""pytest's exit code -> ours: 0 everything held, 1 something violated, crashed or doubtful, 2 wrong usage, 3 an error of pytest or its
plugins, 5 nothing was judged, 130 interrupted."""
DOUBTFUL = 4
"""Our exit code where something is doubtful, and nothing worse."""

SUITE = (
    "--pyargs",
    "frostproof_properties",
    "--override-ini=python_files=test_*.py",
    "--override-ini=python_functions=test_*",
    "--pythonwarnings=ignore::pytest.PytestAssertRewriteWarning",  # this process has imported the plugin's package already
)
"""pytest's arguments for the property suite, wherever it is installed and however the project collects its own tests."""


NETWORKS = ("linear", "normalized", "convolutional", "recurrent", "attention", "embedding")
"""The names of `frostproof.applications.atlas.families.FAMILIES`, which imports torch."""


class Listener:
    """Hears as a session ends what pytest has no exit code for."""

    only_doubtful = False

    def pytest_unconfigure(self, config: Any) -> None:
        guest = config.pluginmanager.get_plugin("frostproof-guest")
        self.only_doubtful = guest is not None and guest.only_doubtful

    def exit_code(self, code: int) -> int:
        """Ours, for that of pytest."""
        return DOUBTFUL if code == 1 and self.only_doubtful else EXIT_CODES.get(code, 3)


class OneLine(click.Group):
    """Says what was wrong in one line, and where to read more, in place of a usage text."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}))
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(2)
        except click.Abort:
            sys.exit(130)
        except click.ClickException as error:
            click.echo(
                f"frostproof: {error.format_message().rstrip('.')}; see frostproof --help", err=True
            )
        except FrostproofError as error:
            click.echo(f"frostproof: {error}", err=True)
        sys.exit(2)


@click.group(
    cls=OneLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="frostproof")
def main() -> None:
    """Verify that optimizers respect frozen layers, on random networks, masks and training programs."""


@main.command(epilog="Whatever follows `--` goes to pytest.")
@click.argument("targets", nargs=-1, metavar="TARGET... [-- PYTEST_ARGS]")
@click.option(
    "--zoo",
    is_flag=True,
    help="Every optimizer of the libraries of the extra `zoo` that are installed.",
)
@click.option(
    "--profile", type=click.Choice(list(PROFILES)), help="How much to try.  [default: dev]"
)
@click.option(
    "--max-examples", type=int, help="Examples per optimizer and device, in place of the profile's."
)
@click.option(
    "--time-budget",
    help="Time for the whole run, as 90s, 30m or 2h; each optimizer gets its share.",
    metavar="TIME",
)
@click.option(
    "--shards",
    type=int,
    help="Parts into which the examples of each optimizer are split.",
    metavar="N",
)
@click.option("--seed", type=int, help="Seed of the search.")
@click.option(
    "--device",
    multiple=True,
    help="cpu, meta, cuda, ...; may be repeated.  [default: all that are available]",
)
@click.option(
    "--database",
    multiple=True,
    help="Where failures are remembered, beside the local folder.",
    metavar="LAYER",
)
@click.option(
    "--jobs",
    default="auto",
    show_default=True,
    metavar="auto|N",
    help="Processes to use; 0 runs in this one.",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Show Hypothesis's whole report of each failure."
)
@click.option("--strict", is_flag=True, help="Findings that only cost memory or time fail too.")
@click.option("--json", help="Write the results to this file.", metavar="FILE")
@click.option("--markdown", help="Write a summary to this file.", metavar="FILE")
@click.option("--html", help="Write one self-contained page to this file.", metavar="FILE")
@click.option(
    "--baseline",
    help="Results of an earlier run: say what is new, fixed, and still there.",
    metavar="FILE",
)
@click.option(
    "--cases", help="Folder for counterexamples.  [default: frostproof-cases]", metavar="FOLDER"
)
@click.pass_context
def check(
    context: click.Context,
    /,
    targets: tuple[str, ...],
    jobs: str,
    verbose: bool,
    zoo: bool,
    **given: Any,
) -> int:
    """Verify each TARGET: `module:Name`, or `module:*` for every optimizer class that the module exports.

    Exit code 0: everything held; 1: something is violated or crashed; 2: wrong usage; 3: an error of pytest or its plugins; 4: something
    is doubtful, as it was seen here and not by its script, and nothing is worse; 5: nothing was judged; 130: interrupted.
    """
    targets, pytest_args = _split(targets, context)
    if zoo:
        targets = (*targets, *_zoo())
    if not targets:
        raise click.UsageError("no target: name a TARGET as module:Name")
    if not (jobs == "auto" or jobs.isdigit()):
        raise click.BadParameter(f"--jobs is {jobs!r}: give auto or a number")
    options = [f"--frostproof-optimizer={target}" for target in targets]
    for name, value in given.items():
        option = f"--frostproof-{name.replace('_', '-')}"
        if value is True:
            options.append(option)
        elif value not in (None, False):
            options += [
                f"{option}={each}" for each in (value if isinstance(value, tuple) else (value,))
            ]
    import pytest

    from frostproof.doors.pytest_plugin.forked_workers import ForkedWorkers

    sys.path.insert(0, str(Path.cwd()))
    loud = (
        ["-v"]
        if verbose
        else []
        if any(re.fullmatch("-v+|--verbose", argument) for argument in pytest_args)
        else ["-q"]
    )
    remote = any(argument.startswith("--tx") for argument in pytest_args)
    workers = ["--dist=load"] if remote else [f"--numprocesses={jobs}"]
    listener = Listener()
    arguments = [*SUITE, *loud, *options, *workers, "--maxschedchunk=1", *pytest_args]
    with ForkedWorkers() if jobs != "0" else nullcontext() as forked:
        code = pytest.main(arguments, plugins=[listener, *([forked] if forked else [])])
    return listener.exit_code(int(code))


def _split(words: tuple[str, ...], context: click.Context) -> tuple[tuple[str, ...], list[str]]:
    """The targets, and what stood behind `--`. click drops the `--`, so it is found in the words as they were given."""
    given: list[str] = context.obj or sys.argv[1:]
    behind = given[given.index("--") + 1 :] if "--" in given else []
    return words[: len(words) - len(behind)] if behind else words, behind


def _zoo() -> list[str]:
    with quiet():
        from frostproof.optimizers import zoo

    targets = zoo.installed_targets()
    if not targets:
        raise click.UsageError("nothing of the zoo is installed: pip install 'frostproof[zoo]'")
    if zoo.missing_libraries():
        click.echo(
            f"frostproof: not installed, and left out: {', '.join(zoo.missing_libraries())}",
            err=True,
        )
    return targets


@main.command("replay")
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path)
)
def again(files: tuple[Path, ...]) -> int:
    """Run saved counterexamples again: FIXED or STILL VIOLATED, each.

    Exit code 0: all are fixed; 1: some are violated still; 2: a file is no case; 4: a script does not show what is violated; 5: one
    could not be judged.
    """
    codes = {0}
    sys.path.insert(0, str(Path.cwd()))
    for path in files:
        try:
            saved, verdict = _replayed(path)
        except FrostproofError as error:  # the other files are run all the same
            click.echo(f"frostproof: {error}", err=True)
            codes.add(2)
            continue
        click.echo(
            f"{verdict.outcome} {one_line(f'{path}: {saved.target} on {saved.device}, {saved.invariant}')}"
        )
        if verdict.text:
            click.echo(f"    {one_line(verdict.text)}")
        codes.add(
            {"FIXED": 0, "STILL VIOLATED": 1, "DOUBTFUL": 4, "NOT JUDGED": 5}[verdict.outcome]
        )
    return next(code for code in (1, 2, 4, 5, 0) if code in codes)


def _replayed(path: Path) -> tuple[CaseFile, ReplayVerdict]:
    from frostproof.spec.casefile import load_case

    saved = load_case(path)
    with quiet():
        from frostproof.verification.replay import replay
    try:
        return saved, replay(saved)
    except FrostproofError as error:
        raise type(error)(one_line(f"{one_line(str(path), 160)}: {error}")) from None


@main.command()
@click.argument(
    "files", nargs=-1, required=True, metavar="RESULTS.json...", type=click.Path(path_type=Path)
)
@click.option(
    "--html",
    help="Write one self-contained page to this file.",
    metavar="FILE",
    type=click.Path(path_type=Path),
)
@click.option(
    "--markdown",
    help="Write a summary to this file.",
    metavar="FILE",
    type=click.Path(path_type=Path),
)
@click.option(
    "--json",
    help="Write the merged results to this file.",
    metavar="FILE",
    type=click.Path(path_type=Path),
)
@click.option(
    "--baseline",
    help="Results of an earlier run: say what is new, fixed, and still there.",
    metavar="FILE",
    type=click.Path(path_type=Path),
)
@click.option(
    "--fail-on-new",
    is_flag=True,
    help="Exit code 1 where anything is violated or doubtful that was not in the baseline.",
)
def report(
    files: tuple[Path, ...],
    html: Path | None,
    markdown: Path | None,
    json: Path | None,
    baseline: Path | None,
    fail_on_new: bool,
) -> int:
    """Merge the results of shards and machines, and write them for people.

    Exit code 0, whatever they say, unless --fail-on-new is given; 2: no results. Without a baseline everything is new.
    """
    from frostproof.report.attachments import located
    from frostproof.report.files import write
    from frostproof.report.terminal import counted
    from frostproof.results.baseline import comparison_lines, has_new_failure
    from frostproof.results.files import load_results, merge_results

    _writable(html, markdown, json)
    old = load_results(baseline) if baseline is not None else None
    results = merge_results([located(load_results(path), path.parent) for path in files])
    folders = (Path(), *dict.fromkeys(path.parent for path in files))
    write(results, html=html, markdown=markdown, json=json, folders=folders, baseline=old)
    click.echo(f"{results.totals.subjects} subjects, {counted(results.totals)}")
    if old is not None:
        click.echo("\n".join(comparison_lines(results, old)))
    return int(fail_on_new and has_new_failure(results, old))


def _writable(*paths: Path | None) -> None:
    """Raise UsageError, before anything is run, where a file cannot be written."""
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"cannot write {str(path)!r}: make its folder first")


@main.command(epilog="Without a TARGET: all of torch.optim.")
@click.argument("targets", nargs=-1, metavar="[TARGET...]")
@click.option(
    "--family",
    multiple=True,
    type=click.Choice(NETWORKS),
    help="Networks to look at; may be repeated.  [default: all]",
)
@click.option(
    "--examples",
    type=click.IntRange(1),
    default=14,
    show_default=True,
    help="Cases per optimizer and family of networks.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the search."
)
@click.option(
    "--jobs", type=click.IntRange(1), help="Processes to use.  [default: one per core]", metavar="N"
)
@click.option(
    "--json", help="Write all of it to this file.", metavar="FILE", type=click.Path(path_type=Path)
)
@click.option(
    "--markdown",
    help="Write a summary to this file.",
    metavar="FILE",
    type=click.Path(path_type=Path),
)
@click.option(
    "--html",
    help="Write one self-contained page to this file.",
    metavar="FILE",
    type=click.Path(path_type=Path),
)
@click.option(
    "--cases",
    help="Folder for the script of every difference.",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
)
def atlas(
    targets: tuple[str, ...],
    family: tuple[str, ...],
    examples: int,
    seed: int,
    jobs: int | None,
    json: Path | None,
    markdown: Path | None,
    html: Path | None,
    cases: Path | None,
) -> None:
    """Compare every way to freeze with every other, for each TARGET and each family of networks.

    Exit code 0, whatever it finds; 2: wrong usage.
    """
    from frostproof.report.files import put

    _writable(json, markdown, html)
    sys.path.insert(0, str(Path.cwd()))
    with quiet():
        from frostproof.applications.atlas.build import drawn, written
        from frostproof.applications.atlas.page import page
        from frostproof.applications.atlas.summary import overview, summary
    found = drawn(
        targets,
        examples=examples,
        seed=seed,
        jobs=jobs,
        families=family,
        told=lambda line: click.echo(line, err=True),
    )
    if cases is not None:
        found = written(found, cases)
    if json is not None:
        put(json, found.to_json())
    if markdown is not None:
        put(markdown, summary(found).encode())
    if html is not None:
        put(html, page(found).encode())
    click.echo(overview(found))


@main.command()
@click.option(
    "--examples",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Random examples of each claim.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the search."
)
@click.option(
    "--json", help="Write all of it to this file.", metavar="FILE", type=click.Path(path_type=Path)
)
@click.option(
    "--markdown",
    help="Write it for people to this file.",
    metavar="FILE",
    type=click.Path(path_type=Path),
)
@click.option(
    "--cases",
    help="Folder for the script of every claim.",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
)
def claims(
    examples: int, seed: int, json: Path | None, markdown: Path | None, cases: Path | None
) -> None:
    """Settle what the forum thread on freezing claims: true, false with a counterexample, or true only under a condition.

    Exit code 0, whatever the verdicts are; 2: wrong usage.
    """
    from frostproof.report.files import put

    _writable(json, markdown)
    with quiet():
        from frostproof.applications.forum_claims import CLAIMS
        from frostproof.applications.forum_claims.document import document
        from frostproof.applications.forum_claims.survey import made, settled, survey
        from frostproof.applications.forum_claims.words import lines, total
    folder = None if cases is None else made(cases)
    rows = []
    for claim in CLAIMS:
        rows.append(settled(claim, examples, seed))
        click.echo("\n".join(lines(rows[-1])))
        if folder is not None:
            put(folder / f"claim-{claim.id}.py", rows[-1].script.encode())
    found = survey(rows, examples, seed)
    if json is not None:
        put(json, found.to_json())
    if markdown is not None:
        put(markdown, document(found).encode())
    click.echo(f"\n{total(found)}")


@main.command()
@click.argument("model", metavar="MODULE:FACTORY")
@click.option(
    "--freeze",
    multiple=True,
    help="What is frozen: a glob on parameter names, or a module; may be repeated.",
    metavar="PATTERN",
)
@click.option(
    "--input",
    "shape",
    help="Sizes of a random batch, as 8,3,32,32, where the factory gives no inputs.",
    metavar="SHAPE",
)
@click.option(
    "--optimizer",
    default="AdamW",
    show_default=True,
    help="Whose state is counted: of torch.optim, or module:Name.",
    metavar="NAME",
)
@click.option(
    "--json", help="Write the counts to this file.", metavar="FILE", type=click.Path(path_type=Path)
)
def cost(
    model: str, freeze: tuple[str, ...], shape: str | None, optimizer: str, json: Path | None
) -> None:
    """Count what each way to freeze a part of your model costs, what is still computed and why, and recommend one.

    FACTORY is a function without arguments that returns an nn.Module, or a pair of it and its inputs. The loss is the mean of
    the squares of what it returns. Exit code 0; 2: wrong usage.
    """
    import msgspec

    _writable(json)
    sys.path.insert(0, str(Path.cwd()))
    with quiet():
        from frostproof.applications.costs.report import report
        from frostproof.applications.costs.table import table
        from frostproof.report.files import put

        found = report(model, freeze, shape, optimizer)
    if json is not None:
        put(json, msgspec.json.encode(found))
    click.echo(table(found), nl=False)


@main.command("list")
@click.argument("what", type=click.Choice(["optimizers", "invariants", "devices"]))
def listing(what: str) -> None:
    """List the optimizers of torch.optim, the invariants, or the devices found here."""
    if what == "invariants":
        from frostproof.invariants.registry import INVARIANTS

        for invariant in INVARIANTS:
            click.echo(f"{invariant.id:28} {invariant.severity:6} {invariant.statement}")
    elif what == "devices":
        with quiet():
            from frostproof.process.device import available

        click.echo("\n".join(available()))
    else:
        with quiet():
            from frostproof.optimizers import registry
            from frostproof.optimizers.targets import torch_optimizers

        for subject in [
            *torch_optimizers(),
            *(
                each
                for target in registry.registered_targets()
                for each in registry.registered_subjects(target)
            ),
        ]:
            click.echo(f"{subject.target:28} {subject.variant}")
        for failure in registry.entry_point_subjects()[1]:
            click.echo(f"frostproof: {failure}", err=True)
