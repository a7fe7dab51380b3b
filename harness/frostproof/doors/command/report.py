"""`frostproof report`: the results of several runs, merged."""

from __future__ import annotations

from pathlib import Path

import click

from frostproof.doors.command.parameters import (
    baseline_option,
    html_option,
    json_option,
    markdown_option,
)
from frostproof.doors.output_files import check_writable


@click.command("report")
@click.argument(
    "files", nargs=-1, required=True, metavar="RESULTS.json...", type=click.Path(path_type=Path)
)
@html_option
@markdown_option
@json_option
@baseline_option
@click.option(
    "--fail-on-new",
    is_flag=True,
    help="Exit with code 1 if something is violated or doubtful that was not in the baseline, or "
    "can no longer be judged.",
)
def report_command(
    files: tuple[Path, ...],
    html: Path | None,
    markdown: Path | None,
    json: Path | None,
    baseline: Path | None,
    fail_on_new: bool,
) -> int:
    """Merge the results of shards and machines, and write them for people.

    Exit code 0, whatever the results are, unless --fail-on-new is given; 2: a file has no results.
    Without a baseline everything is new.
    """
    from frostproof.report.attachments import locate_files
    from frostproof.report.files import write_reports
    from frostproof.report.terminal import status_counts, subject_count
    from frostproof.results.baseline import comparison_lines, has_new_failure
    from frostproof.results.files import load_results, merge_results

    check_writable(html, markdown, json)
    old = load_results(baseline) if baseline is not None else None
    results = merge_results([locate_files(load_results(path), path.parent) for path in files])
    folders = (Path(), *dict.fromkeys(path.parent for path in files))
    write_reports(results, html=html, markdown=markdown, json=json, folders=folders, baseline=old)
    click.echo(f"{subject_count(results.totals)}, {status_counts(results.totals)}")
    if old is not None:
        click.echo("\n".join(comparison_lines(results, old)))
    return int(fail_on_new and has_new_failure(results, old))
