"""Whether the order of an optimizer's parameters is why it breaks an invariant."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from frostproof.invariants.invariant import Invariant
from frostproof.spec.case import Case, Group
from frostproof.verification.reruns import Reruns


def is_gone_in_order(reruns: Reruns, invariant: Invariant) -> bool:
    """Whether a breach is gone where A and B have their trainable parameters in the same places."""
    other = reruns.run(_in_order(reruns.case, reruns.subject.groups))
    return invariant not in other.violated and other.trial.crash is None


def _in_order(case: Case, several: bool) -> Case:
    """The case with each parameter behind those that stay trainable for longer.

    If the optimizer takes `several` groups, each parameter that is thawed has one of its own, as
    B gives it one then. Others stay in their groups, and what counts them depends on freezing.
    """
    thawed = {case.parameters[i].name for i in case.thawed if several}
    trains: dict[str, float] = {}
    for number, frozen in enumerate(
        (case.initially_frozen, *(mask.at_step for mask in case.mask_timeline))
    ):
        for i in frozen:
            trains.setdefault(case.parameters[i].name, number)

    def shortest_last(names: Iterable[str]) -> float:
        return -max(trains.get(name, inf) for name in names)

    groups: list[Group] = []
    for group in case.groups:
        names = sorted(group.parameters, key=lambda name: shortest_last((name,)))
        parts = [[name for name in names if name not in thawed]]
        parts += ([name] for name in names if name in thawed)
        groups += (Group(tuple(part), group.options) for part in parts if part)
    groups.sort(key=lambda group: shortest_last(group.parameters))
    return case.replaced(groups=tuple(groups))
