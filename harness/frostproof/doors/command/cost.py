"""`frostproof cost`: what each way to freeze a part of a user's model costs."""

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


@click.command("cost")
@click.argument("model", metavar="MODULE:FACTORY")
@freeze_option
@input_option
@step_option
@click.option(
    "--optimizer",
    default="AdamW",
    show_default=True,
    help="The optimizer whose state is counted: of torch.optim, or module:Name.",
    metavar="NAME",
)
@json_option
def cost_command(
    model: str,
    freeze: tuple[str, ...],
    inputs: str | None,
    step: str | None,
    optimizer: str,
    json: Path | None,
) -> None:
    """Count what each way to freeze a part of your model costs, and recommend one.

    The table also says what is still computed, and why. FACTORY is a function without arguments
    that returns an nn.Module, or a pair of it and its inputs. Without a training step the loss is
    the mean of the squares of the model's output. Exit code 0; 2: wrong usage.
    """
    import msgspec

    check_writable(json)
    import_from_here()
    with quiet():
        from frostproof.applications.costs.report import cost_report
        from frostproof.applications.costs.table import cost_table
        from frostproof.report.files import write_file

        found = cost_report(model, freeze, inputs, optimizer, step)
    if json is not None:
        write_file(json, msgspec.json.encode(found))
    click.echo(cost_table(found), nl=False)
