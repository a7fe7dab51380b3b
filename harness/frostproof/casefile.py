"""Case files: a counterexample with what it shows, as versioned JSON."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from frostproof.results import InvariantRow, SubjectRow


def save(folder: Path, subject: SubjectRow, invariant: InvariantRow, case: Any, script: str | None = None) -> None:
    """Write one counterexample, and its script beside it; the files are named after the subject and the invariant, whose row
    gets their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join((subject.target, subject.variant, subject.device, invariant.id))
    path = folder / (re.sub(r"[^\w.-]+", "_", name) + ".json")
    content = {
        "format": "frostproof-case",
        "version": 1,
        "target": subject.target,
        "variant": subject.variant,
        "device": subject.device,
        "invariant": invariant.id,
        "message": invariant.message,
        "case": case,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1))
    invariant.case = str(path)
    beside = path.with_suffix(".py")
    if script is None:
        beside.unlink(missing_ok=True)  # of an earlier run, for another case
    else:
        beside.write_text(script, encoding="utf-8")
        invariant.reproducer = str(beside)
