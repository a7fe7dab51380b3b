"""`frostproof list`: optimizers of torch.optim, invariants, devices, or settings."""

from __future__ import annotations

import click

from frostproof.process.quiet import quiet


@click.command("list")
@click.argument("what", type=click.Choice(["optimizers", "invariants", "devices", "settings"]))
def list_command(what: str) -> None:
    """List the optimizers of torch.optim, the invariants, the available devices, or the settings.

    A setting says how the model and the optimizer's step are wrapped.
    """
    lists = {"optimizers": _optimizers, "invariants": _invariants, "devices": _devices}
    {**lists, "settings": _settings}[what]()


def _invariants() -> None:
    from frostproof.invariants.registry import INVARIANTS

    for invariant in INVARIANTS:
        click.echo(f"{invariant.id:28} {invariant.severity:6} {invariant.statement}")


def _settings() -> None:
    from frostproof.spec.setting import SETTINGS

    for setting in SETTINGS:
        click.echo(f"{setting.name:20} {setting.summary}")


def _devices() -> None:
    with quiet():
        from frostproof.process.device import available_devices

    click.echo("\n".join(available_devices()))


def _optimizers() -> None:
    with quiet():
        from frostproof.optimizers import registry
        from frostproof.optimizers.targets import torch_optimizers

    registered = [
        each
        for target in registry.registered_targets()
        for each in registry.registered_subjects(target)
    ]
    for subject in [*torch_optimizers(), *registered]:
        click.echo(f"{subject.target:28} {subject.variant}")
    for failure in registry.entry_point_subjects()[1]:
        click.echo(f"frostproof: {failure}", err=True)
