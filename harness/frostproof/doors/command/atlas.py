"""`frostproof atlas`: every way to freeze, compared with every other."""

from __future__ import annotations

from pathlib import Path

import click

from frostproof.applications.atlas.families import FAMILIES
from frostproof.doors.command.parameters import (
    html_option,
    import_from_here,
    json_option,
    markdown_option,
    path_option,
    seed_option,
)
from frostproof.doors.output_files import check_writable
from frostproof.process.quiet import quiet


@click.command("atlas", epilog="Without a TARGET: all of torch.optim.")
@click.argument("targets", nargs=-1, metavar="[TARGET...]")
@click.option(
    "--family",
    multiple=True,
    type=click.Choice(list(FAMILIES)),
    help="Networks to compare on; may be repeated.  [default: all]",
)
@click.option(
    "--examples",
    type=click.IntRange(1),
    default=14,
    show_default=True,
    help="Cases per optimizer and family of networks.",
)
@seed_option
@click.option(
    "--jobs", type=click.IntRange(1), help="Processes to use.  [default: one per core]", metavar="N"
)
@json_option
@markdown_option
@html_option
@path_option("--cases", "Folder for the script of every difference.", "FOLDER")
def atlas_command(
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
    from frostproof.report.files import write_file

    check_writable(json, markdown, html)
    import_from_here()
    with quiet():
        from frostproof.applications.atlas.build import build_atlas, write_scripts
        from frostproof.applications.atlas.page import atlas_page
        from frostproof.applications.atlas.summary import atlas_markdown, atlas_totals
    found = build_atlas(
        targets,
        examples=examples,
        seed=seed,
        jobs=jobs,
        families=family,
        report=click.echo,
    )
    if cases is not None:
        found = write_scripts(found, cases)
    if json is not None:
        write_file(json, found.to_json())
    if markdown is not None:
        write_file(markdown, atlas_markdown(found).encode())
    if html is not None:
        write_file(html, atlas_page(found).encode())
    click.echo(atlas_totals(found))
