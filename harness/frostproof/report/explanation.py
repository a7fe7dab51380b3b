"""How an optimizer is used, and as what Subject: for authors whose optimizer is not judged."""

from __future__ import annotations

from collections.abc import Iterable

from frostproof.errors import UnusableError, one_line
from frostproof.optimizers.probe import probe
from frostproof.optimizers.statement import statement
from frostproof.process.fence import fenced
from frostproof.spec.subject import Subject
from frostproof.verification.item_report import usage


def explanation(subject: Subject, device: str) -> str:
    """What was found out about a subject on a device, and the Subject to paste."""
    name = f"{subject.name} on {device}"
    try:
        with fenced(device):
            found = probe(subject, device)
    except UnusableError as unusable:
        blanks = "Fill in each ..." if subject.needs else "Correct the fields that are wrong"
        return "\n".join(
            [
                one_line(f"{name} is not judged: {unusable}", 1000),
                *_tries(unusable.tries),
                "",
                f"{blanks}, and verify this Subject by its name, as module:NAME.",
                "docs/subjects.md describes the fields.",
                "",
                statement(subject, unusable=True),
            ]
        )
    lines = [f"{name}: {usage(found)}", *(f"not tried: {each}" for each in found.not_tried)]
    said = [one_line(line, 1000) for line in lines]
    return "\n".join([*said, "", statement(found, unusable=False)])


def _tries(tries: Iterable[tuple[str, str]]) -> list[str]:
    """What each way said that was tried; of several that said the same, the first."""
    said: dict[str, list[str]] = {}
    for way, fault in tries:
        said.setdefault(fault, []).append(way or "as it is")
    lines = []
    for fault, ways in said.items():
        others = len(ways) - 1
        more = f", and {others} other {'way' if others == 1 else 'ways'}" if others else ""
        lines.append(f"    {one_line(ways[0] + more)}: {one_line(fault)}")
    return ["", "It was tried with nothing frozen, and said:", *lines] if lines else []
