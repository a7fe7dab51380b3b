"""Case files: a counterexample with what it shows, as versioned JSON."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from frostproof.results import InvariantRow, SubjectRow


def save(folder: Path, subject: SubjectRow, invariant: InvariantRow, case: Any) -> Path:
    """Write one counterexample; the file is named after the subject and the invariant. Returns its path."""
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
    return path
