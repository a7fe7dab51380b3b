"""`frostproof audit`: what people ask of one model and the parameters that they freeze."""

from __future__ import annotations

from pathlib import Path

import click

from frostproof.doors.command.parameters import freeze_option, import_from_here, json_option
from frostproof.doors.output_files import check_writable
from frostproof.process.quiet import quiet


@click.command("audit")
@click.argument("model", metavar="MODULE:FACTORY")
@freeze_option
@click.option(
    "--input",
    "inputs",
    help="A batch: its sizes, as 8,3,32,32, or module:name of a function that returns one.",
    metavar="SHAPE",
)
@click.option(
    "--training-step",
    "step",
    help="module:name of a function of the model and a batch that returns the loss.",
    metavar="FUNCTION",
)
@click.option(
    "--optimizer",
    default="AdamW",
    show_default=True,
    help="Of torch.optim, or module:name of a class, or of a function that takes the model.",
    metavar="NAME",
)
@json_option
def audit_command(
    model: str,
    freeze: tuple[str, ...],
    inputs: str | None,
    step: str | None,
    optimizer: str,
    json: Path | None,
) -> int:
    """Say what is frozen in your model, what only looks so, and what still changes.

    Each statement was tried on the model, and has the two lines of code that show it. FACTORY is
    that of `frostproof cost`. Exit code 0; 1: there is a mistake; 2: wrong usage.
    """
    import msgspec

    check_writable(json)
    import_from_here()
    with quiet():
        from frostproof.applications.audit.report import audit, audit_page
        from frostproof.report.files import write_file

        found = audit(model, freeze, inputs, step, optimizer)
    if json is not None:
        write_file(json, msgspec.json.encode(found))
    click.echo(audit_page(found), nl=False)
    return 1 if found.mistakes else 0
