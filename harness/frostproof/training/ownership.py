"""The frozen parameters, and those that the optimizer owns, at each point of a training."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from frostproof.approaches.approach import Approach
from frostproof.spec.case import Case, Positions
from frostproof.spec.subject import Subject
from frostproof.training.source import At


class Ownership(NamedTuple):
    """The parameters that the optimizer owns."""

    members: tuple[Positions, ...]
    """For each of its groups the members, in its order."""
    stepping: bool
    """Whether there is an optimizer to call."""

    @property
    def owned(self) -> Positions:
        """All members, in the order of the groups."""
        return tuple(i for group in self.members for i in group)


class Masked(NamedTuple):
    """The parameters and layers that are frozen."""

    frozen: frozenset[int]
    """Positions of the frozen parameters."""
    paths: tuple[str, ...]
    """Paths of the layers that are frozen as a whole."""


class Groups:
    """The mask and the optimizer's parameter groups, as the events of a case change them.

    Nothing is run: under an approach and a subject, they follow from the case alone.
    """

    def __init__(self, case: Case, subject: Subject, approach: Approach) -> None:
        self.case, self.subject, self.approach = case, subject, approach
        self.frozen = set(case.initially_frozen)
        self.added_frozen: set[int] = set()
        """Positions of the parameters that were given to the optimizer while they were frozen."""
        self.optimizer = False
        """Whether an optimizer exists: not where there is nothing to own."""
        self.layout: list[tuple[int, list[int]]] = []
        """For each group of the optimizer the group of the case that it comes from, and all members
        that it ever had."""

    @property
    def owned(self) -> list[int]:
        """Positions of the parameters that the optimizer owns, in its order."""
        return [i for group in range(len(self.layout)) for i in self.members(group)]

    @property
    def trainable(self) -> list[int]:
        return [i for i in range(len(self.case.parameters)) if i not in self.frozen]

    @property
    def stepping(self) -> bool:
        """Whether there is an optimizer to call."""
        return self.optimizer and bool(self.owned)

    @property
    def fused(self) -> bool:
        """Whether the optimizer runs the backward pass, and steps within it."""
        return self.subject.backward == "fused" and self.stepping

    @property
    def runs_backward(self) -> bool:
        """Whether there is an optimizer that runs the backward pass itself."""
        return self.subject.runs_backward and self.stepping

    @property
    def keyed(self) -> bool:
        """Whether the members of one group may need groups with different options."""
        return self.subject.keys is not None or bool(self.approach.options(True))

    def members(self, group: int) -> list[int]:
        """Current members of optimizer group `group`: those that it is still to own."""
        return [i for i in self.layout[group][1] if self.owns(i)]

    def owns(self, i: int) -> bool:
        """Whether the optimizer is to own parameter `i`."""
        return i in self.added_frozen or self.approach.owns(i in self.frozen)

    def keys(self, i: int) -> dict[str, Any]:
        """The options that the subject, or the approach, wants for parameter `i`."""
        spec = self.case.parameters[i]
        keys = self.subject.keys(spec.name, spec.shape) if self.subject.keys is not None else {}
        return {**keys, **self.approach.options(i in self.frozen)}

    def newcomers(self, known: Collection[int] = ()) -> list[tuple[int, list[int]]]:
        """Groups of the parameters that the optimizer is to own and does not know."""
        found = []
        for number, group in enumerate(self.case.groups):
            alike: dict[Any, list[int]] = {}
            for i in map(self.case.positions.__getitem__, group.parameters):
                if i not in known and self.owns(i):
                    key = tuple(self.keys(i).items()) if self.keyed else ()
                    alike.setdefault(key, []).append(i)
            found += [(number, members) for members in alike.values()]
        return found

    def owned_mark(self) -> At:
        groups = range(len(self.layout)) if self.subject.factory is not None else ()
        members = tuple(tuple(self.approach.arranged(self.members(group))) for group in groups)
        return At("owned", "", Ownership(members, self.stepping))

    def masked(self) -> Masked:
        places = self.case.architecture.places
        whole = (place for place in places if place.uses and self.frozen.issuperset(place.uses))
        return Masked(frozenset(self.frozen), tuple(place.path for place in whole))
