"""The settled claims in Markdown: docs/claims.md."""

from __future__ import annotations

from collections.abc import Iterator

from frostproof.applications.forum_claims.survey import ClaimSurvey, SettledClaim
from frostproof.applications.forum_claims.words import totals_line, verdict_reason
from frostproof.report.markdown import paragraph

CLAIMS_HEAD = """\
# What the forum thread claims

`frostproof claims --markdown docs/claims.md` writes this page, and the test suite settles each
claim again in every run. `frostproof claims --cases FOLDER` writes one script for each claim. It
runs the first example of the claim's table, needs nothing but torch, and exits with 1 if the claim
fails there.

[The thread](https://discuss.pytorch.org/t/58156) asks for the best practice for freezing layers.
**A** is its first method: set `requires_grad=False` on the frozen parameters, and pass all
parameters to the optimizer. **B** is its second method: pass only the trained parameters to the
optimizer.

Each claim is tested on random examples: networks of two to four layers, the frozen layers in them,
optimizers of torch.optim, and whatever else the claim depends on. The verdict is

- **true** if the claim held on every example;
- **false** if it failed on an example: the table shows the smallest counterexample that Hypothesis
  found;
- **true only if** a condition holds, if the claim held on every example that meets the condition
  and on no other example.

The networks use float64 on the CPU, and results are compared bit for bit. Their linear layers are
3 x 3 and a batch has 4 rows, so the matrix product of one layer takes 72 FLOPs. Rows 36 to 38, 71
and 76 of [failure-modes.md](failure-modes.md) are about results that freezing rounds differently.
Some optimizers are left out:

- LBFGS, where two runs are compared, because it rounds differently with frozen parameters;
- SparseAdam, because it refuses dense gradients;
- Adafactor and Muon, where gradients are clipped or left over, because their steps depend on little
  more than the direction of a gradient.
"""


def claims_markdown(found: ClaimSurvey) -> str:
    """The table of verdicts, and a section for each claim, whose anchor is the claim's id."""
    lines = [CLAIMS_HEAD, f"{totals_line(found)}.", ""]
    lines += ["| verdict | claim | post |", "| --- | --- | --- |"]
    for row in found.claims:
        posts = ", ".join(dict.fromkeys(each.post for each in row.quotes))
        lines.append(f"| **{row.verdict}** | [{row.id}](#{row.id}): {row.statement} | {posts} |")
    for row in found.claims:
        lines += _section(row)
    return "\n".join(lines) + "\n"


def _section(row: SettledClaim) -> Iterator[str]:
    yield from ("", f"## {row.id}", "")
    for quote in row.quotes:
        yield from (paragraph(f"{quote.words} ({quote.post})", "> "), "")
    yield from (paragraph(row.statement), "")
    condition = f" {row.only_if}" if row.verdict == "true only if" else ""
    reason = verdict_reason(row)
    reason = reason[0].upper() + reason[1:]
    yield from (paragraph(f"**{row.verdict.capitalize()}**{condition}. {reason}."), "")
    yield from ("| | example | seen |", "| --- | --- | --- |")
    for each in row.shown:
        example = ", ".join(f"{key}={value!r}" for key, value in each.example.items())
        yield f"| {'holds' if each.held else 'fails'} | `{example}` | {each.seen} |"
