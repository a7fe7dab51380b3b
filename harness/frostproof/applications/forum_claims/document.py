"""The settled claims in Markdown, as docs/claims.md has them."""

from __future__ import annotations

from collections.abc import Iterator

from frostproof.applications.forum_claims.survey import ClaimSurvey, SettledClaim
from frostproof.applications.forum_claims.words import totals_line, verdict_reason

HEAD = """\
# What the forum thread claims

Made by `frostproof claims --markdown docs/claims.md`; the suite settles each claim again in every run.

[The thread](https://discuss.pytorch.org/t/58156) asks for the best practice for freezing layers. **A** is its first method:
`requires_grad=False` on what is frozen, all parameters to the optimizer. **B** is the second: only what is trained to the
optimizer. Each claim is tried on random examples: networks of two to four layers, what is frozen in them, optimizers of torch.optim
and what else the claim hangs on. It is **true** where it held on each, **false** where it did not, with the smallest counterexample
that Hypothesis found, and **true only if** where a condition tells exactly on which it held: both directions are tested.

Networks are in float64 on the CPU, and compared bit for bit. Their layers are linear ones of 3 x 3, and a batch has 4 rows, so that one
layer's matrix product takes 72 FLOPs. What rounds differently where something is frozen stands in [failure-modes.md](failure-modes.md)
(rows 36 to 38, 71 and 76): LBFGS is left out where two runs are compared. SparseAdam is left out, as it refuses dense gradients;
and Adafactor and Muon, where gradients are clipped or leftovers stepped on, as they read little more than a direction.
"""


def claims_markdown(found: ClaimSurvey) -> str:
    """The table of verdicts, and a section for each claim, whose anchor is the claim's id."""
    table = ["| verdict | claim | of |", "| --- | --- | --- |"]
    for row in found.claims:
        posts = ", ".join(dict.fromkeys(each.post for each in row.quotes))
        table.append(f"| **{row.verdict}** | [{row.id}](#{row.id}): {row.statement} | {posts} |")
    return (
        "\n".join(
            [
                HEAD,
                f"{totals_line(found)}.",
                "",
                *table,
                *(line for row in found.claims for line in _section(row)),
            ]
        )
        + "\n"
    )


def _section(row: SettledClaim) -> Iterator[str]:
    yield from ("", f"## {row.id}", "")
    for quote in row.quotes:
        yield from (f"> {quote.words} ({quote.post})", "")
    yield from (row.statement, "")
    condition = f" {row.only_if}" if row.verdict == "true only if" else ""
    yield from (f"**{row.verdict.capitalize()}**{condition}. {_sentence(verdict_reason(row))}.", "")
    yield from ("| | example | seen |", "| --- | --- | --- |")
    for each in row.shown:
        example = ", ".join(f"{key}={value!r}" for key, value in each.example.items())
        yield f"| {'holds' if each.held else 'fails'} | `{example}` | {each.seen} |"
    code = 0 if row.shown[0].held else 1
    yield from (
        "",
        "<details>",
        f"<summary>The first of these as a script: exits {code}</summary>",
        "",
        "```python",
    )
    yield from row.script.splitlines()
    yield from ("```", "", "</details>")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
