"""`frostproof claims`: what the forum thread on freezing claims, settled."""

from __future__ import annotations

from pathlib import Path

import click

from frostproof.doors.command.parameters import (
    json_option,
    markdown_option,
    path_option,
    seed_option,
)
from frostproof.doors.output_files import check_writable


@click.command("claims")
@click.option(
    "--examples",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Random examples of each claim.",
)
@seed_option
@json_option
@markdown_option
@path_option("--cases", "Folder for the script of every claim.", "FOLDER")
def claims_command(
    examples: int, seed: int, json: Path | None, markdown: Path | None, cases: Path | None
) -> None:
    """Settle what the forum thread on freezing claims.

    Each claim is true, false with a counterexample, or true only under a condition.
    Exit code 0, whatever the verdicts are; 2: wrong usage.
    """
    from frostproof.process.fork_server import forking
    from frostproof.report.files import make_folder, write_file

    check_writable(json, markdown)
    if cases is not None:
        make_folder(cases)
    rows = []
    with forking(("torch._dynamo", "frostproof.applications.forum_claims.survey")):
        from frostproof.applications.forum_claims import CLAIMS
        from frostproof.applications.forum_claims.document import claims_markdown
        from frostproof.applications.forum_claims.survey import make_survey, settle_claim
        from frostproof.applications.forum_claims.words import claim_lines, totals_line

        for claim in CLAIMS:
            rows.append(settle_claim(claim, examples, seed))
            click.echo("\n".join(claim_lines(rows[-1])))
            if cases is not None:
                write_file(cases / f"claim-{claim.id}.py", rows[-1].script.encode())
    found = make_survey(rows, examples, seed)
    if json is not None:
        write_file(json, found.to_json())
    if markdown is not None:
        write_file(markdown, claims_markdown(found).encode())
    click.echo(f"\n{totals_line(found)}")
