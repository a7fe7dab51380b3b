"""Whether the order of an optimizer's parameters is why it breaks an invariant."""

from __future__ import annotations

from frostproof.invariants.invariant import Invariant
from frostproof.spec.case import Case, Group
from frostproof.verification.reruns import Reruns


def is_gone_in_order(reruns: Reruns, invariant: Invariant) -> bool:
    """Whether a breach is gone where A and B have their trainable parameters in the same places."""
    case = _in_order(reruns.case, reruns.subject.groups)
    other = reruns.run(case)
    return invariant not in other.violated and other.trial.crash is None


def _in_order(case: Case, several: bool) -> Case:
    """The case with no parameter that is ever frozen before one that never is.

    If the optimizer takes `several` groups, each parameter has one of its own, so that A and B
    differ in the size of no group either.
    """
    ever = {*case.initially_frozen, *case.frozen_midway, *case.thawed}
    frozen = {case.parameters[i].name for i in ever}
    groups: list[Group] = []
    for group in case.groups:
        names = sorted(group.parameters, key=frozen.__contains__)
        parts = [(name,) for name in names] if several else [tuple(names)]
        groups += (Group(part, group.options) for part in parts)
    groups.sort(key=lambda group: frozen.issuperset(group.parameters))
    return case.replaced(groups=tuple(groups))
