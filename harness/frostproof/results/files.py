"""Results files: read with bounds, and the results of several shards merged into one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from frostproof.errors import CaseError, UsageError, one_line
from frostproof.results.rows import Environment, Results, merge_rows, totals
from frostproof.spec.saved_files import UNDECODABLE, read_versioned

VERSION: Literal[2] = 2
LARGEST = 64 << 20
"""The largest results file that is read, in bytes: it has about 20,000 subjects."""


def load_results(path: Path) -> Results:
    """The results at `path`, in the newest version. Raises UsageError, one line, on other files."""
    command = "frostproof check --json"
    try:
        data, _ = read_versioned(
            path, largest=LARGEST, kind="results", version=VERSION, command=command
        )
        found = msgspec.json.decode(data, type=Results)
    except CaseError as error:
        raise UsageError(one_line(f"{one_line(str(path), 160)}: {error}")) from None
    except UNDECODABLE as error:
        text = f"not a results file ({error}): name a file that `{command}` wrote"
        raise UsageError(one_line(f"{one_line(str(path), 160)}: {text}")) from None
    found.version = VERSION
    return found


def results_schema() -> bytes:
    """The JSON schema of results files of any version: docs/results.schema.json."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema |= msgspec.json.schema(Results)
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"


def merge_results(parts: Sequence[Results]) -> Results:
    """The results of several shards or machines as one: counts and times add up."""
    rows = merge_rows(row for part in parts for row in part.subjects)
    return Results(
        _merge_environments([part.environment for part in parts]),
        rows,
        totals(rows, sum(part.totals.seconds for part in parts)),
    )


def _merge_environments(parts: Sequence[Environment]) -> Environment:
    """Different versions are all listed; different seeds become None."""
    seeds = {part.seed for part in parts}
    return Environment(
        _join_distinct(part.frostproof for part in parts),
        _join_distinct(part.torch for part in parts),
        _join_distinct(part.hypothesis for part in parts),
        _join_distinct(part.python for part in parts),
        _join_distinct(part.platform for part in parts),
        sorted({device for part in parts for device in part.devices}),
        _join_distinct(part.profile for part in parts),
        seeds.pop() if len(seeds) == 1 else None,
    )


def _join_distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
