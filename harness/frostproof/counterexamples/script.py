"""The script of a counterexample: plain torch, the library under test, one failing assertion."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.backends import opt_einsum

from frostproof.approaches.approach import Approaches
from frostproof.approaches.each_alone import EachAlone
from frostproof.counterexamples.custom_approaches import functions
from frostproof.counterexamples.layout import draw_call, looped, sorted_imports
from frostproof.counterexamples.network import adapters, plain
from frostproof.counterexamples.spawning import IMPORTS, on_ranks
from frostproof.errors import UnprintableError
from frostproof.invariants.invariant import Assertion, ShownBreach
from frostproof.process.allocator import (
    FILLER,
    M_PERTURB,
    can_fill_kernel_memory,
    shuffle_addresses,
)
from frostproof.spec.case import Case, Role, parameters_expression
from frostproof.spec.layers import modules
from frostproof.spec.program import SaveLoad, Step
from frostproof.spec.subject import Subject
from frostproof.training.bits import bits
from frostproof.training.lowering import Plan, accumulates, lower
from frostproof.training.marks import PHASES
from frostproof.training.naming import Naming, draws, speaks_of
from frostproof.training.observation import Trial
from frostproof.training.source import (
    WIDTH,
    At,
    Block,
    Statement,
    block,
    merged,
    refolded,
    rendered,
)

ATTEMPTS = 100
"""How often a script compares two runs with one seed, until they differ."""


def script(shown: ShownBreach, subject: Subject, approaches: Approaches | None = None) -> str:
    """Python source that exits 1, with one line, while `subject` breaks an invariant as was shown.

    It exits 0 once the subject no longer does.

    Raises UnprintableError, with the reason.
    """
    breach, case = shown.breach, shown.case
    # An exception ends the training within its event, or before the first.
    case = case.replaced(program=case.program[: max(breach.event, 0) + 1])
    return _Script(shown.trial, case, breach.roles, subject, shown.device, approaches, shown).text()


def training(
    case: Case,
    subject: Subject,
    role: Role,
    device: str = "cpu",
    approaches: Approaches | None = None,
) -> str:
    """The source of the whole training of one role, which asserts nothing.

    Raises UnprintableError, with the reason.
    """
    trial = Trial(case, {}, subject)
    return _Script(trial, case, (role,), subject, device, approaches, None).text()


class _Script:
    """Prints the statements of one training, or of two that are compared, and an assertion."""

    def __init__(
        self,
        trial: Trial,
        case: Case,
        roles: Sequence[Role],
        subject: Subject,
        device: str,
        approaches: Approaches | None,
        shown: ShownBreach | None,
    ) -> None:
        self.trial, self.case, self.subject, self.device = trial, case, subject, device
        self.roles, self.shown = roles, shown
        self.assertion = Assertion() if shown is None else shown.assertion
        self.count = 0 if shown is not None and shown.breach.event < 0 else len(case.program)
        ways = (approaches or Approaches()).roles_for(trial.case)
        self.ways = {role: ways[role] for role in roles}
        self.resumes = any(role.startswith("resumed") for role in roles) and case.has(SaveLoad)
        self.naming = Naming()
        self.plans = [self._plan(role) for role in roles]
        if self.naming.unprintable:
            raise UnprintableError(self.naming.unprintable)

    def _plan(self, role: Role) -> Plan:
        resumes = role.startswith("resumed")
        return lower(
            self.case, self.subject, self.ways[role], self.device, self.naming, resumes=resumes
        )

    def text(self) -> str:
        built = [self._printed(-1, plan.built) for plan in self.plans]
        events = [
            [self._printed(number, plan.events[number]) for plan in self.plans]
            for number in range(self.count)
        ]
        if len(self.plans) == 2:
            assert self.shown is not None
            left, right = self.shown.left, self.shown.right
            way = ("way", f'"{left}"')
            shuffled = ["shuffle_addresses()"] if self._fills else []
            start = [*shuffled, *merged(built[0], built[1], *way), *self._filled(right)]
            steps = looped([merged(each[0], each[1], *way) for each in events])
            end = f"return {self.assertion.returns}"
            body: list[Statement] = [
                block("def train(way):", *start, *self.assertion.setup, *steps, end)
            ]
            verdict = self.assertion.verdict
            if self._fills:
                comment = "# two runs of a random optimizer may be alike by chance"
                verdict = [block(f"for _ in range({ATTEMPTS}):  {comment}", *verdict)]
            body += verdict
        else:
            fill = (
                ["torch.utils.deterministic.fill_uninitialized_memory = True  # with NaN"]
                if self._fills
                else []
            )
            body = [
                "",
                *built[0],
                *fill,
                "",
                *self.assertion.setup,
                *looped([each[0] for each in events]),
            ]
            if self.assertion.verdict:
                body += ["", *self.assertion.verdict]
        return self._assembled(body)

    # The statements of a training, with what is asserted at their marks

    def _printed(self, number: int, statements: Sequence[Statement]) -> list[Statement]:
        """The statements of one event as a script has them. Number -1 is before the first event."""
        notes = {
            point: notes
            for (event, point), notes in self.assertion.notes.items()
            if event == number
        }
        undone = (
            self.trial.restored.get(number, ())
            if self.shown is not None and number < self.shown.breach.event
            else ()
        )
        if undone:  # it has a script of its own
            listed = parameters_expression(self.case, undone)
            notes["before"] = [
                f"known = [p.detach().clone() for p in {listed}]",
                *notes.get("before", ()),
            ]
            undo = block(
                "with torch.no_grad():",
                block(f"for p, old in zip({listed}, known):", "p.copy_(old)"),
            )
            notes["end"] = [
                *notes.get("end", ()),
                "# This move is a violation of its own, and undone. The state is left as it is.",
                undo,
            ]
        last = number == self.count - 1
        return self._noted(statements, notes, self.assertion.guard if last else None)

    def _noted(
        self,
        statements: Sequence[Statement],
        notes: Mapping[str, Sequence[Statement]],
        guard: tuple[str, Block] | None,
    ) -> list[Statement]:
        found: list[Statement] = []
        guarded: list[Statement] = []
        phase = ""
        for each in (*statements, At("end of block")):
            if isinstance(each, At):
                if (
                    guard is not None
                    and guarded
                    and (each.point in PHASES or each.point == "end of block")
                ):
                    found += [block("try:", *guarded), guard[1]]
                    guarded = []
                phase = each.point if each.point in PHASES else phase
                (guarded if guarded else found).extend(self._mark(each, notes))
            else:
                inner = self._replaced(each, notes, guard)
                (
                    guarded
                    if guard is not None and phase == guard[0] and not _defines(each)
                    else found
                ).extend(inner)
        return found

    def _mark(self, mark: At, notes: Mapping[str, Sequence[Statement]]) -> list[Statement]:
        seeding = (
            [self._seeded(str(mark.data))]
            if mark.point == "seed" and self._draws(mark.data)
            else []
        )
        return [*seeding, *notes.get(mark.point, ())]

    def _replaced(
        self,
        each: str | Block,
        notes: Mapping[str, Sequence[Statement]],
        guard: tuple[str, Block] | None,
    ) -> list[Statement]:
        """A statement with the notes at its own marks.

        The network is written out where it is built only once.
        """
        if isinstance(each, Block):
            return [Block(each.head, tuple(self._noted(each.body, notes, guard)))]
        if each.startswith("model = network(") and not self.resumes:
            return [
                self._seeded(str(self.case.seed)),
                *self.case.architecture.source(self.device, self.case.dtype),
            ]
        return [each]

    def _draws(self, seed: int) -> bool:
        """Whether something drew random numbers in the event with this seed, or may have."""
        number = seed - self.case.seed * 1000 - 1
        if number >= len(self.trial.records):
            return True
        drawn = torch.Generator().manual_seed(seed).get_state()
        return any(
            not seen.rng_state.startswith(bits(drawn))
            for seen in self.trial.records[number].observations.values()
        )

    def _filled(self, right: str) -> Iterator[str]:
        """In the second run fill uninitialised memory with NaN; in the first leave it as it is."""
        if self._fills:
            setting = "torch.utils.deterministic.fill_uninitialized_memory"
            yield f'{setting} = way == "{right}"  # with NaN'
            if self.subject.factory is None and can_fill_kernel_memory():
                value = f'{FILLER:#x} if way == "{right}" else 0'
                yield f"ctypes.CDLL(None).mallopt({M_PERTURB}, {value})  # M_PERTURB: kernels, too"

    @property
    def _fills(self) -> bool:
        return "again" in self.roles

    def _seeded(self, seed: str) -> str:
        return f"seed_all({seed})" if self._others else f"torch.manual_seed({seed})"

    def _inlined(self, body: Sequence[Statement]) -> list[Statement]:
        """The same, with the statements that draw a batch in the place of a call."""
        found: list[Statement] = []
        for each in body:
            call = draw_call(each) if isinstance(each, str) else None
            if not isinstance(each, str | Block):
                raise TypeError(f"{each} has no text")
            if isinstance(each, Block):
                found.append(Block(each.head, tuple(self._inlined(each.body))))
            elif call is None:
                found.append(each)
            else:
                found += self._drawing(*call)
                if each.startswith("((x, y)"):
                    found.append("((x, y),) = batches")
        return found

    @property
    def _others(self) -> list[str]:
        return draws(self.subject)

    def _assembled(self, body: Sequence[Statement]) -> str:
        ranks = self.subject.setting.ranks
        if ranks > 1:
            shown = self.shown
            raises = shown.invariant.id if shown is not None and shown.breach.kind.raises else ""
            body = on_ranks([each for each in body if each != ""], ranks, raises)
            self.naming.imports |= IMPORTS
        calls = [draw_call(line) for line in rendered(body)]
        # As a function, where that is shorter, with its empty lines and a line at each place.
        alone, places = len(self._drawing("", "")), sum(call is not None for call in calls)
        self.shared = places * alone > alone + 4 + places
        if not self.shared:
            body = self._inlined(body)
        imported, definitions = adapters(self.case.architecture)
        kinds: dict[str, Any] = {role: type(way) for role, way in self.ways.items()}
        hooks = zip(self.roles, self.plans, strict=True)
        ways = dict.fromkeys(
            text for role, plan in hooks for text in functions(kinds[role], plan.own)
        )
        only = [plain(modules.only)] if any(plan.only for plan in self.plans) else []
        each_alone = [plain(EachAlone)] if any(plan.alone for plan in self.plans) else []
        shuffling = [plain(shuffle_addresses)] if len(self.plans) == 2 and self._fills else []
        helpers = [*definitions, *only, *each_alone, *shuffling, *ways, *self._functions()]
        code = "\n".join(rendered(body))
        used = "\n".join([*helpers, code])
        imports = {"import sys", "import torch", *self.naming.imports, *imported}
        imports |= {
            f"import {name}" for name in ("copy", "ctypes", "random", "numpy") if f"{name}." in used
        }
        if "nn." in used.replace("torch.nn.", ""):
            imports.add("from torch import nn")
        parts = [*self._header(), "", *sorted_imports(imports), "", *self._settings()]
        text = "\n".join(parts).rstrip("\n") + "\n"
        for function in helpers:
            text += "\n\n" + "\n".join(refolded(function)) + "\n"
        spaced = not code.startswith("\n") and not code.startswith("def")
        text += "\n\n" if helpers or code.startswith("def") else ""
        text += "\n" if spaced and not helpers else ""
        return text + (code.lstrip("\n") if helpers else code) + "\n"

    def _functions(self) -> Iterator[str]:
        if self._others:
            lines = rendered(
                [block("def seed_all(seed):", "torch.manual_seed(seed)", *self._others)]
            )
            yield "\n".join(lines) + "\n"
        if self.resumes:
            built = (
                self._seeded("seed"),
                *self.case.architecture.source(self.device, self.case.dtype),
            )
            yield "\n".join(rendered([block("def network(seed):", *built, "return model")])) + "\n"
        if self.shared:
            many = accumulates(self.case)
            head = "def draw(seed, count):" if many else "def batch(seed):"
            function = block(
                head, *self._drawing("seed", "count"), f"return {'batches' if many else 'x, y'}"
            )
            yield "\n".join(rendered([function])) + "\n"

    @property
    def _redraws(self) -> list[str]:
        """Statements that seed again, for layers or an optimizer that draw after the batch."""
        steps = [
            self.case.seed * 1000 + record.number + 1
            for record in self.trial.records
            if isinstance(record.event, Step)
        ]
        if steps and not self._others and not any(map(self._draws, steps)):
            return []
        return [f"{self._seeded('seed')}  # layers and optimizers may draw, too"]

    def _drawing(self, seed: str, count: str) -> list[Statement]:
        """The statements that draw one batch, or `count` of them."""
        case, ranks = self.case, self.subject.setting.ranks
        samples, targets = case.architecture.batch(case.batch, self.device, case.dtype, ranks)
        if self.case.differentiable_input:
            samples += ".requires_grad_()"
        drawn = [f"x, y = {samples}, {targets}"]
        if accumulates(self.case):
            drawn = [f"batches = [({samples}, {targets}) for _ in range({count})]"]
        elif len(drawn[0]) > WIDTH - 8:
            drawn = [f"x = {samples}", f"y = {targets}"]
        return [
            each.replace("(seed)", f"({seed})") if isinstance(each, str) else each
            for each in ("torch.manual_seed(seed)", *drawn, *self._redraws)
        ]

    def _settings(self) -> Iterator[str]:
        if not self.subject.setting.compiles and speaks_of(self.subject, "torch.compile"):
            yield 'torch.compiler.set_stance("force_eager")  # compilation is another question'
        if opt_einsum.is_available() and speaks_of(self.subject, "einsum("):
            yield "torch.backends.opt_einsum.enabled = False  # another order rounds differently"
        equivalent = self.shown is not None and self.shown.invariant.id == "equivalent"
        if not equivalent and self.case.architecture.attends:
            comment = "it rounds differently, by requires_grad"
            yield f"torch.backends.mha.set_fastpath_enabled(False)  # {comment}"
        if self._fills or self.case.architecture.tokens or self.device.startswith("cuda"):
            yield "torch.use_deterministic_algorithms(True, warn_only=True)"
            yield "torch.utils.deterministic.fill_uninitialized_memory = False"

    def _header(self) -> list[str]:
        version = f" {self.subject.version}" if self.subject.version else ""
        text = f"A training of {self.subject.name}{version}."
        if self.shown is not None:
            breaks = f"{self.subject.name}{version} breaks this, and 0 once it holds"
            if self.shown.invariant.id == "equivalent":
                breaks = f"they differ under {self.subject.name}{version}, and 0 once they do not"
            invariant = self.shown.invariant
            text = f"{invariant.id}: {invariant.statement}. Exits 1 while {breaks}."
        return textwrap.wrap(
            " ".join(text.split()), WIDTH, initial_indent="# ", subsequent_indent="# "
        )


def _defines(statement: Statement) -> bool:
    return isinstance(statement, Block) and statement.head.startswith("def ")
