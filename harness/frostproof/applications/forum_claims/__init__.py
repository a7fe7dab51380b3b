"""The claims of the forum thread, tested on plain torch. Importing this package imports torch."""

from __future__ import annotations

from frostproof.applications.forum_claims import (
    costs,
    equivalence,
    gradients,
    graphs,
    leftovers,
    no_grad,
    ownership,
    remedies,
)
from frostproof.applications.forum_claims.claim import Claim

CLAIMS: tuple[Claim, ...] = (
    *equivalence.CLAIMS,
    *ownership.CLAIMS,
    *leftovers.CLAIMS,
    *remedies.CLAIMS,
    *gradients.CLAIMS,
    *costs.CLAIMS,
    *no_grad.CLAIMS,
    *graphs.CLAIMS,
)
