"""`frostproof audit`: what people ask of one model and the parameters that they freeze."""

from __future__ import annotations

from pathlib import Path

import click

from frostproof.doors.command.parameters import (
    freeze_option,
    import_from_here,
    input_option,
    json_option,
    step_option,
)
from frostproof.doors.output_files import check_writable
from frostproof.process.quiet import quiet


@click.command("audit")
@click.argument("model", metavar="MODULE:FACTORY")
@freeze_option
@input_option
@step_option
@click.option(
    "--optimizer",
    show_default="the one that FACTORY returns beside the model, or AdamW",
    help="Of torch.optim, or module:name of a class, or of a function that takes the very model "
    "that FACTORY returned, and returns its optimizer: a new one, or one that your code kept.",
    metavar="NAME",
)
@click.option(
    "--already-frozen",
    is_flag=True,
    help="FACTORY returns the model as your code freezes it: freeze nothing more. --freeze then "
    "says what is meant to be frozen.",
)
@json_option
def audit_command(
    model: str,
    freeze: tuple[str, ...],
    inputs: str | None,
    step: str | None,
    optimizer: str | None,
    already_frozen: bool,
    json: Path | None,
) -> int:
    """Say what is frozen in your model, what only looks so, and what still changes.

    FACTORY is a function without arguments that returns the model, or a pair of it and its
    optimizer, or of it and its inputs. --freeze freezes it; to audit
    your own code that freezes, let FACTORY return its result and give --already-frozen. Each
    statement was tried on the model, and has the two lines of code that show it.

    Exit code 0; 1: there is a mistake; 2: wrong usage.
    """
    import msgspec

    check_writable(json)
    import_from_here()
    with quiet():
        from frostproof.applications.audit.report import audit, audit_page
        from frostproof.report.files import write_file

        found = audit(model, freeze, inputs, step, optimizer, already_frozen)
    if json is not None:
        write_file(json, msgspec.json.encode(found))
    click.echo(audit_page(found), nl=False)
    return 1 if found.mistakes else 0
