"""A summary in Markdown, for pull requests and CI."""

from __future__ import annotations

from frostproof.results import Results


def summary(results: Results) -> str:
    """Totals, and a table of what is not simply held."""
    total, environment = results.totals, results.environment
    lines = [
        "## frostproof",
        "",
        f"{total.subjects} subjects, {total.trials:,} trials, {total.judgements:,} judgements in {total.seconds:.1f} s: "
        f"{total.violated} violated, {total.unusable} not judged.",
        "",
        f"torch {environment.torch}, profile {environment.profile}, seed {environment.seed}, devices {', '.join(environment.devices)}.",
        "",
        "| optimizer | device | status | what |",
        "| --- | --- | --- | --- |",
    ]
    for row in results.subjects:
        faults = [f"{each.id}: {each.message}" for each in row.invariants if each.status in ("violated", "expected")]
        if faults or row.status != "held":
            what = "; ".join([*([row.reason] if row.reason else []), *faults])
            lines.append(f"| {_cell(row.name)} | {_cell(row.device)} | {row.status} | {_cell(what)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
