"""The page of the zoo has a row for each optimizer and verdict, with the class and the line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from frostproof.results.rows import (
    Environment,
    InvariantRow,
    Results,
    RowStatus,
    Status,
    SubjectRow,
    totals,
)
from tests.helpers.consumer import ROOT

SOURCE = "lib/optim.py:7 in step(): p.mul_(a | b)"
MOVED = "approach A moved a frozen parameter"


def row(name: str, variant: str, *wrong: InvariantRow, reason: str | None = None) -> SubjectRow:
    found: Status = "violated" if any(each.severity != "cost" for each in wrong) else "held"
    status: Status = "unusable" if reason else found
    held = InvariantRow("flags-untouched", "held", "wrong", 9)
    return SubjectRow(
        f"lib.optim:{name}", variant, "cpu", "1.2", status, reason, 9, 9, 1.0, {}, [*wrong, held]
    )


def moved(status: RowStatus = "violated") -> InvariantRow:
    found = InvariantRow("frozen-weights-unchanged", status, "wrong", 9, 3, f"{MOVED}; by {SOURCE}")
    found.violation_class, found.source = "freezing", SOURCE
    return found


def test_implementations_with_one_verdict_are_one_row(tmp_path: Path) -> None:
    added = InvariantRow("group-added-trains", "doubtful", "wrong", 9, 1, "step raised KeyError")
    added.violation_class = "groups"
    rows = [
        *(row("Leaky", variant, moved()) for variant in ("foreach", "forloop")),
        row("Leaky", "fused", moved(), added),
        row("Plain", "default"),
        row("Costly", "default", InvariantRow("cost-bounded", "violated", "cost", 9, 9, "more")),
        row("Asks", "default", reason="needs teacher"),
        row("AsksToo", "default", reason="needs teacher"),
    ]
    environment = Environment("0.2.0", "2.13.0", "6.1", "3.11", "Linux", ["cpu"], "dev", 1)
    results = tmp_path / "results.json"
    results.write_bytes(Results(environment, rows, totals(rows, 1.0)).to_json())
    command = [sys.executable, str(ROOT / "benchmarks" / "zoo.py"), str(results), "On the CPU."]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert "On the CPU." in said
    assert "3 of 5 optimizer classes judged, 7 implementations" in done.stdout
    by = "`lib/optim.py:7 in step(): p.mul_(a \\| b)`"
    table = [line for line in said if line.startswith("| Leaky")]
    assert table == [
        f"| Leaky (foreach, forloop) | frozen-weights-unchanged | freezing | {MOVED} | {by} |",
        "| Leaky (fused) | frozen-weights-unchanged, group-added-trains *doubtful* | "
        f"freezing, groups | {MOVED} | {by} |",
    ]
    assert "- not judged: Asks, AsksToo: needs teacher" in said
    assert "Held: Costly, Plain." in said


def test_the_table_of_settings_counts_implementations_and_takes_the_latest(tmp_path: Path) -> None:
    environment = Environment("0.2.0", "2.13.0", "6.1", "3.11", "Linux", ["cpu"], "dev", 1)
    runs = [
        [row("Leaky", "foreach+ddp", moved()), row("Leaky", "forloop+ddp"), row("Asks", "ddp")],
        [row("Leaky", "fsdp2", reason="takes no DTensors"), row("Leaky", "foreach+ddp")],
    ]
    files = []
    for number, rows in enumerate(runs):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_bytes(Results(environment, rows, totals(rows, 1.0)).to_json())

    def table(*paths: Path) -> list[str]:
        script = str(ROOT / "benchmarks" / "zoo.py")
        command = [sys.executable, script, "--settings", *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    assert table(files[0])[2:] == ["| lib | 2 held, 1 violated |", "| all | 2 held, 1 violated |"]
    assert table(*files) == [
        "| library | ddp | fsdp2 |",
        "| --- | --- | --- |",
        "| lib | 3 held | 1 not judged |",
        "| all | 3 held | 1 not judged |",
    ]
