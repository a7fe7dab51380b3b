"""`frostproof explain`: how an optimizer is used, and the Subject that says so."""

from __future__ import annotations

import click

from frostproof.doors.command.parameters import import_from_here
from frostproof.process.quiet import quiet


@click.command("explain")
@click.argument("target", metavar="TARGET")
@click.option("--device", help="Device to try it on.", default="cpu", show_default=True)
def explain_command(target: str, device: str) -> None:
    """Say how TARGET, `module:Name`, is used, or why it is not judged, and print its Subject.

    For an optimizer that is not judged, this says what each way to use it said that was tried. The
    Subject has blanks to fill in. Exit code 0; 2: wrong usage.
    """
    import_from_here()
    with quiet():
        from frostproof.optimizers.targets import exists_on, nothing_to_run, resolve
        from frostproof.process.device import select_devices
        from frostproof.report.explanation import explanation

        (device,) = select_devices([device])
        found = resolve([target])
        texts = [explanation(each, device) for each in found if exists_on(each, device)]
    click.echo("\n\n".join([*texts, *nothing_to_run(found, [device])]))
