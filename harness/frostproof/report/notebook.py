"""The report as a notebook shows it: a small table, every word of it escaped."""

from __future__ import annotations

from html import escape

from frostproof.results.rows import SubjectRow


def html(rows: list[SubjectRow], ok: bool) -> str:
    """One row per implementation and device, with what is violated or doubtful in words."""
    body = "".join(_row(row) for row in rows)
    head = "<tr><th>optimizer</th><th>device</th><th>status</th><th>trials</th><th>judgements</th><th>what</th></tr>"
    return f"<p><b>frostproof: {'everything held' if ok else 'not everything held'}</b></p><table>{head}{body}</table>"


def _row(row: SubjectRow) -> str:
    words = [
        f"{each.id}: {each.message}"
        for each in row.invariants
        if each.status in ("violated", "doubtful")
    ]
    files = [
        f"{word}: {file}" for word, file in (("case", row.case), ("script", row.reproducer)) if file
    ]
    what = "; ".join([row.reason, *files] if row.reason else words)
    cells = (row.name, row.device, row.status, str(row.trials), str(row.judgements), what)
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
