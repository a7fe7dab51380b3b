"""One training of a case, executed: the statements of `frostproof.training.lowering`, one after another, with a recorder looking on."""

from __future__ import annotations

import builtins
import contextlib
import inspect
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import zip_longest
from types import CodeType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from frostproof.approaches.approach import Approach
from frostproof.spec.case import Case
from frostproof.spec.layers import modules
from frostproof.spec.subject import Subject
from frostproof.training.lowering import HOOKS, Ownership, lowered
from frostproof.training.marks import PHASES, Phase
from frostproof.training.naming import Naming
from frostproof.training.rng import seed_everything
from frostproof.training.source import At, Block, Statement

Pair = tuple[Tensor, Tensor]


class Observer(Protocol):
    """Somebody who looks on. It is told of every mark, and may leave no trace in the training."""

    def at(self, training: Training, point: str, value: Any, data: Any) -> None:
        """The training has come to the mark `point`; `value` and `data` are what there is to see."""


class Batches:
    """The batches of a case, drawn once for all the trainings that are run side by side."""

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device = case, device
        self.source = f"drawn = [({', '.join(case.architecture.batch(case.batch, device, case.dtype))}) for _ in range(count)]"
        self.seed = -1
        self.drawn: list[Pair] = []

    def draw(self, seed: int, count: int = 1) -> list[Pair]:
        """`count` batches of samples and targets. The generators are then in the state that the seed gives."""
        if seed != self.seed:
            seed_everything(seed, self.device)
            names = {"torch": torch, "count": count}
            exec(_compiled(self.source), names)
            self.drawn = names["drawn"]  # type: ignore[assignment]
            self.seed = seed
        seed_everything(seed, self.device)
        # Copies: a layer that works in place overwrites the batch.
        return [
            (x.clone().requires_grad_(self.case.differentiable_input), y) for x, y in self.drawn
        ]


class Training:
    """The network of a case under one approach, with its optimizer.

    `names` is what the statements have bound so far: `model`, `optimizer` and the rest. Whatever the optimizer raises is raised;
    `phase` then tells where that was.
    """

    def __init__(
        self,
        case: Case,
        subject: Subject,
        approach: Approach,
        device: str,
        batches: Batches | None = None,
        *,
        resumes: bool = False,
        observer: Observer | None = None,
    ) -> None:
        self.case, self.subject, self.approach, self.device, self.observer = (
            case,
            subject,
            approach,
            device,
            observer,
        )
        self.phase: Phase = "build"
        self.ownership = Ownership((), False)
        self.batches = batches or Batches(case, device)
        naming = Naming()
        self.plan = lowered(case, subject, approach, device, naming, resumes=resumes)
        self.names: dict[str, Any] = {
            **naming.bound,
            "__builtins__": builtins,
            "torch": torch,
            "nn": nn,
            "io": io,
            "inspect": inspect,
            "contextlib": contextlib,
            "only": modules.only,
            "network": self._network,
            "batch": lambda seed: self.batches.draw(seed)[0],
            "draw": self.batches.draw,
            "at": self._at,
            **{HOOKS[name]: getattr(approach, name) for name in self.plan.own},
        }

    @property
    def model(self) -> Any:
        """The network, an nn.Sequential; the latest, where a checkpoint was loaded into a new one."""
        return self.names["model"]

    @property
    def optimizer(self) -> Any:
        """What the subject's factory returned; None where there is nothing to own."""
        return self.names.get("optimizer")

    def build(self) -> None:
        """Make the network and its optimizer, with everything frozen that is frozen at first."""
        self._execute(self.plan.built)

    def run(self, number: int) -> None:
        """Go through the event with this number."""
        self._execute(self.plan.events[number])

    def release(self) -> None:
        """Let go of gradients: those of `create_graph=True` hold on to their own graph, which is never freed otherwise."""
        if self.subject.backward == "create-graph" and "model" in self.names:
            for parameter in self.model.parameters():
                parameter.grad = None

    def _network(self, seed: int) -> nn.Sequential:
        seed_everything(seed, self.device)
        return self.case.architecture.build(self.device, self.case.dtype)

    def _execute(self, statements: Sequence[Statement]) -> None:
        names, skipped = self.names, False
        for statement, following in zip_longest(statements, statements[1:]):
            if isinstance(statement, At):
                self._at(
                    statement.point,
                    names[statement.value] if statement.value else None,
                    statement.data,
                )
            elif not skipped:
                # A `try:` is one statement with the block behind it.
                skipped = isinstance(following, Block) and following.head.startswith("except ")
                exec(_compiled(statement, following) if skipped else _compiled(statement), names)
            else:
                skipped = False

    def _at(self, point: str, value: Any = None, data: Any = None) -> None:
        if point in PHASES:
            self.phase = point  # type: ignore[assignment]
        elif point == "returning":
            self.phase = "step"
        elif point == "seed":
            seed_everything(data, self.device)
        elif point == "owned":
            self.ownership = data
        if self.observer is not None:
            self.observer.at(self, point, value, data)


@lru_cache(maxsize=4096)
def _compiled(*statements: Statement) -> CodeType:
    return compile("\n".join(_lines(statements)), "<training>", "exec")


def _lines(statements: Iterable[Statement], indent: str = "") -> Iterator[str]:
    """The source of statements to run, in which a mark is a call."""
    for statement in statements:
        if isinstance(statement, At):
            yield f'{indent}at("{statement.point}"{", " + statement.value if statement.value else ""})'
        elif isinstance(statement, Block):
            yield indent + statement.head
            yield from _lines(statement.body, indent + "    ")
        else:
            yield indent + statement
