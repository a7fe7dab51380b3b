"""`python -m frostproof`: the command, where its script is not on the path."""

from frostproof.doors.command.main import run

run()
