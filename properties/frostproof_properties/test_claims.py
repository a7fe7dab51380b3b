"""The claims of the forum thread, each settled again with the installed torch."""

from __future__ import annotations

import pytest

from frostproof.applications.forum_claims import CLAIMS
from frostproof.applications.forum_claims.claim import Claim
from frostproof.applications.forum_claims.verdict import decide_claim

EXAMPLES = 40

SETTLED = {
    "same-results": "true",
    "functionally-equivalent": "true only if",
    "equivalent-to-freezing": "true only if",
    "not-passed-is-static": "true",
    "accumulate": "true",
    "right-gradients": "true",
    "wrong-after-the-first-step": "false",
    "previous-layers-affected": "false",
    "edge-case": "true only if",
    "zeroing-suffices": "true only if",
    "zeroing-matters": "true only if",
    "optimizer-checks-requires-grad": "false",
    "frozen-gradients-zeroed": "true only if",
    "both-calculate-gradients": "false",
    "needed-to-backprop": "false",
    "significant-overhead": "true",
    "trained-layers-alone": "true only if",
    "earlier-gradients-left-out": "true only if",
    "best-practice": "true",
    "freezing-saves-memory": "true only if",
    "no-grad-raises": "true",
    "no-grad-stops-the-model": "true only if",
    "frozen-leaves-make-leaves": "true",
    "necessary-nodes-only": "true only if",
    "frozen-leaves-get-nothing": "true",
}
"""The verdict on each claim with torch 2.7 to 2.14; docs/claims.md says what each rests on."""


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_the_verdict_on_a_claim_stands(claim: Claim) -> None:
    found = decide_claim(claim, EXAMPLES)
    if found.word != SETTLED[claim.id]:  # so few examples may miss one side of a condition
        found = decide_claim(claim, 10 * EXAMPLES)
    shown = "; ".join(
        f"{'holds' if each.held else 'fails'} with {each.example}: {each.seen}"
        for each in found.shown
    )
    assert found.word == SETTLED[claim.id], (
        f"this torch behaves otherwise: {claim.id}, {claim.statement} {shown}"
    )


def test_every_claim_is_settled() -> None:
    assert [claim.id for claim in CLAIMS] == [*SETTLED]
