"""One training of a case, executed: its statements, one after another, with an observer."""

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
from torch.utils._pytree import tree_map_only

from frostproof.approaches.approach import Approach
from frostproof.approaches.each_alone import EachAlone
from frostproof.spec.case import Case
from frostproof.spec.layers import modules
from frostproof.spec.setting import EAGER, Setting
from frostproof.spec.subject import Subject
from frostproof.training.hooks import HOOKS
from frostproof.training.lowering import lower
from frostproof.training.marks import PHASES, Phase
from frostproof.training.naming import Naming
from frostproof.training.ownership import Ownership
from frostproof.training.rng import seed_everything
from frostproof.training.source import SOURCE_NAME, At, Block, Statement

Batch = tuple[Tensor, Tensor]
"""Samples and targets, (batch, ...) each."""


class Observer(Protocol):
    """Is told of every mark of a training, and leaves no trace in it."""

    def at(self, training: Training, point: str, value: Any) -> None:
        """The training has come to the mark `point`; `value` is what there is to see."""


class Batches:
    """The batches of a case, drawn once for all the trainings that are run side by side."""

    def __init__(self, case: Case, device: str, setting: Setting = EAGER) -> None:
        self.case, self.device = case, device
        batch = case.architecture.batch(case.batch, device, case.dtype, setting.ranks)
        self.source = f"drawn = [({', '.join(batch)}) for _ in range(count)]"
        self.seed = -1
        self.drawn: list[Batch] = []

    def draw(self, seed: int, count: int = 1) -> list[Batch]:
        """Draw `count` batches. The generators are then in the state that the seed gives."""
        if seed != self.seed:
            seed_everything(seed, self.device)
            names: dict[str, Any] = {"torch": torch, "count": count}
            exec(_compiled(*self.case.architecture.imports, self.source), names)
            self.seed, self.drawn = seed, names["drawn"]
        seed_everything(seed, self.device)
        # Copies: a layer that works in place overwrites the batch.
        requires_grad = self.case.differentiable_input
        if not self.case.architecture.knows_layers:
            return [(tree_map_only(Tensor, Tensor.clone, x), y) for x, y in self.drawn]
        return [(x.clone().requires_grad_(requires_grad), y) for x, y in self.drawn]


class Training:
    """The network of a case under one approach, with its optimizer.

    A training executes the very statements that a script prints, in one namespace: `names` holds
    what they have bound so far, `model` and `optimizer` among it. Nothing else trains, so that a
    trial and the script of its counterexample are the same computation. Before each event the
    generators are seeded as in every other training of the case; only what freezing changes may
    then tell two of them apart.

    `build` and `run` raise whatever the optimizer or the model raises; `phase` then tells where.
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
        """`resumes`: whether it goes on from its checkpoints; other trainings pass them by."""
        self.case, self.subject, self.approach = case, subject, approach
        self.device, self.observer = device, observer
        self.phase: Phase = "build"
        self.ownership = Ownership((), False)
        self.batches = batches or Batches(case, device, subject.setting)
        naming = Naming()
        self.plan = lower(case, subject, approach, device, naming, resumes=resumes)
        self.names: dict[str, Any] = {
            **naming.bound,
            "__builtins__": builtins,
            "torch": torch,
            "nn": nn,
            "io": io,
            "inspect": inspect,
            "contextlib": contextlib,
            "only": modules.only,
            "mean_square": modules.mean_square,
            "EachAlone": EachAlone,
            "network": self._network,
            "batch": lambda seed: self.batches.draw(seed)[0],
            "draw": self.batches.draw,
            "at": self._at,
            **{HOOKS[name]: getattr(approach, name) for name in self.plan.own},
        }
        exec(_compiled(*case.architecture.imports), self.names)

    @property
    def model(self) -> Any:
        """The network, an nn.Sequential; the new one, after a checkpoint was loaded."""
        return self.names["model"]

    @property
    def optimizer(self) -> Any:
        """The optimizer that the subject's factory returned; None where it would own nothing."""
        return self.names.get("optimizer")

    def build(self) -> None:
        """Build the network and its optimizer, and freeze the parameters of the case's mask."""
        self._execute(self.plan.built)

    def run(self, number: int) -> None:
        """Run the event with this number."""
        self._execute(self.plan.events[number])

    def release(self) -> None:
        """Drop gradients: with `create_graph=True` they keep their own graph alive for ever."""
        if self.subject.backward == "create-graph" and "model" in self.names:
            for parameter in self.model.parameters():
                parameter.grad = None

    def _network(self, seed: int) -> nn.Sequential:
        seed_everything(seed, self.device)
        return self.case.architecture.build(self.device, self.case.dtype)

    def _execute(self, statements: Sequence[Statement]) -> None:
        names, skipped = self.names, False
        # torch.compile keeps what it compiles with the code, and what that needs in its globals.
        # Trainings have globals of their own, so that they must not share code.
        code_of = _code if self.subject.setting.compiles else _compiled
        for statement, following in zip_longest(statements, statements[1:]):
            if isinstance(statement, At):
                value = names[statement.value] if statement.value else statement.data
                self._at(statement.point, value)
            elif not skipped:
                # A `try:` is one statement with the block behind it.
                skipped = isinstance(following, Block) and following.head.startswith("except ")
                exec(code_of(statement, following) if skipped else code_of(statement), names)
            else:
                skipped = False

    def _at(self, point: str, value: Any = None) -> None:
        if point in PHASES:
            self.phase = point  # type: ignore[assignment]
        elif point == "returning":
            self.phase = "step"
        elif point == "seed":
            seed_everything(value, self.device)
        elif point == "owned":
            self.ownership = value
        if self.observer is not None:
            self.observer.at(self, point, value)


def _code(*statements: Statement) -> CodeType:
    return compile("\n".join(_lines(statements)), SOURCE_NAME, "exec")


_compiled = lru_cache(maxsize=4096)(_code)


def _lines(statements: Iterable[Statement], indent: str = "") -> Iterator[str]:
    """The source of statements to run, in which a mark is a call."""
    for statement in statements:
        if isinstance(statement, At):
            value = f", {statement.value}" if statement.value else ""
            yield f'{indent}at("{statement.point}"{value})'
        elif isinstance(statement, Block):
            yield indent + statement.head
            yield from _lines(statement.body, indent + "    ")
        else:
            yield indent + statement
