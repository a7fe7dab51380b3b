"""The command `frostproof`, and how it reports wrong usage."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import Any

import click

from frostproof.doors.command.atlas import atlas_command
from frostproof.doors.command.audit import audit_command
from frostproof.doors.command.check import check_command
from frostproof.doors.command.claims import claims_command
from frostproof.doors.command.cost import cost_command
from frostproof.doors.command.doctor import doctor_command
from frostproof.doors.command.explain import explain_command
from frostproof.doors.command.listing import list_command
from frostproof.doors.command.replay import replay_files_command
from frostproof.doors.command.report import report_command
from frostproof.errors import FrostproofError


class OneLineErrors(click.Group):
    """Says in one line what was wrong and where to read more, instead of printing the usage.

    Its help lists the commands in the order in which they were given.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands]

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}))
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
        except click.Abort:
            sys.exit(130)
        except click.ClickException as error:
            message = " ".join(error.format_message().rstrip(".").split())
            context = getattr(error, "ctx", None)
            command = "frostproof" if context is None else context.command_path
            click.echo(f"frostproof: {message}; see {command} --help", err=True)
        except FrostproofError as error:
            click.echo(f"frostproof: {error}", err=True)
        sys.exit(2)


@click.group(
    cls=OneLineErrors,
    commands=[
        check_command,
        explain_command,
        replay_files_command,
        report_command,
        atlas_command,
        claims_command,
        cost_command,
        audit_command,
        doctor_command,
        list_command,
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="frostproof")
def main() -> None:
    """Verify that optimizers respect frozen layers, on random networks, masks and programs."""


def run() -> None:
    """The command as a program.

    It ends without taking torch down object by object, which would take half a second.
    """
    code = 0
    try:
        main()
    except SystemExit as leaving:
        if not isinstance(leaving.code, int | None):
            raise
        code = leaving.code or 0
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody may read it any more
            stream.flush()
    atexit._run_exitfuncs()
    os._exit(code)
