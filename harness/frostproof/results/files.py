"""Results files: read with bounds, and those of several shards as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from frostproof.errors import CaseError, UsageError, one_line
from frostproof.results.rows import Environment, Results, merge_rows, totals
from frostproof.spec.casefile import read_bounded

FORMAT = "frostproof-results"
VERSION: Literal[2] = 2
LARGEST = 64 << 20
"""Bytes of a results file that are read at all: about 20,000 subjects."""


class _Envelope(msgspec.Struct):
    """What every version of the format has."""

    format: str
    version: int


def load_results(path: Path) -> Results:
    """The results at `path`, in the newest version of the format. Raises UsageError, one line that says what to do, on anything else."""
    try:
        data = read_bounded(path, LARGEST, "results")
        envelope = msgspec.json.decode(data, type=_Envelope)
        if envelope.format == FORMAT and envelope.version > VERSION:
            raise CaseError(
                f"version {envelope.version} of the format, from a newer frostproof; this one reads {VERSION}: upgrade it"
            )
        found = msgspec.json.decode(data, type=Results)
    except CaseError as error:
        raise UsageError(one_line(f"{one_line(str(path), 160)}: {error}")) from None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(
            one_line(
                f"{one_line(str(path), 160)}: no results file ({error}): name one that `frostproof check --json` wrote"
            )
        ) from None
    found.version = VERSION
    return found


def merge_results(parts: Sequence[Results]) -> Results:
    """The results of several shards or machines as one: counts add up, and so does the time."""
    rows = merge_rows(row for part in parts for row in part.subjects)
    return Results(
        _environment([part.environment for part in parts]),
        rows,
        totals(rows, sum(part.totals.seconds for part in parts)),
    )


def _environment(parts: Sequence[Environment]) -> Environment:
    """What the shards have in common; versions that differ are listed, a seed that differs is none."""
    seeds = {part.seed for part in parts}
    return Environment(
        _listed(part.frostproof for part in parts),
        _listed(part.torch for part in parts),
        _listed(part.hypothesis for part in parts),
        _listed(part.python for part in parts),
        _listed(part.platform for part in parts),
        sorted({device for part in parts for device in part.devices}),
        _listed(part.profile for part in parts),
        seeds.pop() if len(seeds) == 1 else None,
    )


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
