"""The script of a counterexample: plain torch, the library under test, and the one assertion that fails."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext

import torch

from frostproof.approach import Approaches
from frostproof.bits import bits, nans_alike
from frostproof.case import Case
from frostproof.invariants import BY_ID, HELD, INVARIANTS, NOT_JUDGED, Invariant
from frostproof.layers import SelfAttention, TransformerEncoderLayer
from frostproof.memory import FILLER, M_PERTURB, fills_all
from frostproof.observation import Crash, Trial
from frostproof.program import SaveLoad, Step
from frostproof.reproducer.approaches import functions
from frostproof.reproducer.claims import CLAIMS, Claim, View, labels, quoted
from frostproof.reproducer.naming import Naming, Unprintable, compiles, draws
from frostproof.reproducer.network import adapters, network, ties
from frostproof.reproducer.source import WIDTH, Block, Statement, block, merged, refolded, rendered
from frostproof.reproducer.transcript import Transcript, accumulates
from frostproof.subject import Subject
from frostproof.trial import run_trial

ONLY = """def only(model, *names):  # a module that has these parameters of the model and no others
    root = torch.nn.Module()
    for name in names:
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        module.register_parameter(last, model.get_parameter(name))
    return root
"""


def script(case: Case, subject: Subject, invariant: str | Invariant, device: str = "cpu", approaches: Approaches | None = None) -> str:
    """Python source that exits 1 with one line while `subject` breaks `invariant` in `case`, and 0 once it no longer does.

    The case is run once more, to see what breaks where. Raises Unprintable, with the reason.
    """
    ways = approaches or Approaches()
    invariant = BY_ID[invariant] if isinstance(invariant, str) else invariant
    trial, found = _broken(case, subject, invariant, device, ways)
    naming = Naming()
    claim = found if isinstance(found, Claim) else _crashed(trial, found, invariant)
    crash = None if isinstance(found, Claim) else found
    return _Script(trial, subject, invariant, device, ways, claim, crash, naming).text()


def _broken(case: Case, subject: Subject, invariant: Invariant, device: str, ways: Approaches) -> tuple[Trial, Claim | Crash]:
    """The trial that breaks the invariant, and how: of the case, or of the same training with nothing frozen."""
    if invariant.id == "repeats-itself" and "again" not in case.extras:
        case = case.replaced(extras=(*case.extras, "again"))
    for each in (case, case.control()):
        # As a verification judges it; the atlas, whose own invariant is not among these, tells each difference of bits.
        with nans_alike() if invariant in INVARIANTS and invariant.compares else nullcontext():
            trial = run_trial(each, subject, device, (invariant,), ways).trial
        for moment in trial.moments:
            if invariant.judge(trial, moment) not in (HELD, NOT_JUDGED):
                return trial, CLAIMS[invariant.id](View(trial, invariant, moment, device))
        if trial.crash is not None:
            return trial, trial.crash
    raise Fleeting("the same case, run once more, does not break it")


def _crashed(trial: Trial, crash: Crash, invariant: Invariant) -> Claim:
    call = CALLS.get(crash.phase, crash.phase)
    where = f"with nothing frozen, and every gradient there, {call} does not raise; so it must not here"
    if invariant.id == "equivalent":
        other = trial.names["b" if crash.role == "a" else "a"]
        where = f"freezing the same by {other}, {call} does not raise; so {trial.names[crash.role]} is no equivalent"
    return Claim((crash.role,), max(crash.index, 0), where)


CALLS = {
    "build": "the constructor",
    "zero_grad": "zero_grad()",
    "step": "step()",
    "train": "train()",
    "eval": "eval()",
    "load": "load_state_dict()",
    "regroup": "add_param_group()",
}


class Fleeting(Unprintable):
    """What happened once, and not again."""


class _Script:
    def __init__(
        self,
        trial: Trial,
        subject: Subject,
        invariant: Invariant,
        device: str,
        ways: Approaches,
        claim: Claim,
        crash: Crash | None,
        naming: Naming,
    ) -> None:
        self.trial, self.subject, self.invariant, self.device = trial, subject, invariant, device
        self.claim, self.crash, self.naming = claim, crash, naming
        case = trial.case
        stop = crash.index if crash is not None else claim.index
        self.case = case.replaced(program=case.program[: stop + 1]) if stop >= 0 else case
        self.events = self.case.program if crash is None or crash.index >= 0 else ()
        self.ways = ways.of(case)
        self.resumes = any(role.startswith("resumed") for role in claim.roles) and self.case.has(SaveLoad)
        self.compared = len(claim.roles) == 2

    def text(self) -> str:
        transcripts = [self._transcript(role) for role in self.claim.roles]
        built = [each.built() for each in transcripts]
        events = [[each.event(number, event) for each in transcripts] for number, event in enumerate(self.events)]
        if self.compared:
            left, right = labels(self.trial, self.claim.roles[0], self.claim.roles[1])
            way = ("way", quoted(left))
            start = self._network() + merged(built[0], built[1], *way)
            start += self._filled(right)
            steps = _looped([merged(each[0], each[1], *way) for each in events])
            end = f"return {self.claim.returns}"
            body: list[Statement] = [block("def train(way):", *start, *self.claim.start, *steps, end)]
            body += self.claim.verdict
        else:
            start = self._network() + built[0]
            fill = ["torch.utils.deterministic.fill_uninitialized_memory = True  # with NaN"] if self._fills else []
            body = ["", *start, *fill, "", *self.claim.start, *_looped([each[0] for each in events])]
            if self.claim.verdict:
                body += ["", *self.claim.verdict]
        return self._assembled(body, any("only" in each.requests for each in transcripts))

    def _transcript(self, role: str) -> Transcript:
        guard = None
        if self.crash is not None:
            what = CALLS.get(self.crash.phase, self.crash.phase)
            message = f'sys.exit(f"{self.invariant.id}: {what} raised {{error!r:.200}}")'
            guard = (self.crash, message)
        return Transcript(
            self.case,
            self.subject,
            self.ways[role],
            self.device,
            self.naming,
            self.claim.notes,
            resumes=role.startswith("resumed"),
            guard=guard,
        )

    def _filled(self, right: str) -> Iterator[str]:
        """What was in new memory before: NaN on the right, whatever it is on the left."""
        if self._fills:
            yield f"torch.utils.deterministic.fill_uninitialized_memory = way == {quoted(right)}  # with NaN"
            if self.subject.factory is None and fills_all():
                value = f"{FILLER:#x} if way == {quoted(right)} else 0"
                yield f"ctypes.CDLL(None).mallopt({M_PERTURB}, {value})  # M_PERTURB: kernels, too"

    @property
    def _fills(self) -> bool:
        return "again" in self.claim.roles

    def _network(self) -> list[Statement]:
        if self.resumes:
            return [f"model = network({self.case.seed})"]
        return self._built(str(self.case.seed))

    def _built(self, seed: str) -> list[Statement]:
        architecture = self.case.architecture
        return [self._seeded(seed), f"model = {network(architecture, self.device, self.case.dtype)}", *ties(architecture)]

    def _seeded(self, seed: str) -> str:
        return f"seed_all({seed})" if self._others else f"torch.manual_seed({seed})"

    def _inlined(self, body: Sequence[Statement]) -> list[Statement]:
        """The same with what draws a batch in the place of the call that would."""
        found: list[Statement] = []
        for each in body:
            call = _draw(each) if isinstance(each, str) else None
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

    def _assembled(self, body: Sequence[Statement], only: bool) -> str:
        calls = [_draw(line) for line in rendered(body)]
        # As a function, where that is shorter: it takes an empty line or two, and a line at each place.
        alone, places = len(self._drawing("", "")), sum(call is not None for call in calls)
        self.shared = places * alone > alone + 4 + places
        if not self.shared:
            body = self._inlined(body)
        imported, definitions = adapters(self.case.architecture)
        ways = dict.fromkeys(text for role in self.claim.roles for text in functions(self.ways[role]))
        helpers = [*definitions, *([ONLY] if only else []), *ways, *self._functions()]
        code = "\n".join(rendered(body))
        used = "\n".join([*helpers, code])
        imports = {"import sys", "import torch", *self.naming.imports, *imported}
        imports |= {f"import {name}" for name in ("copy", "ctypes", "random", "numpy") if f"{name}." in used}
        if "nn." in used.replace("torch.nn.", ""):
            imports.add("from torch import nn")
        settings = list(self._settings())
        parts = [*self._header(), "", *_sorted(imports), "", *settings, *([""] if settings else [])]
        text = "\n".join(parts).rstrip("\n") + "\n"
        for function in helpers:
            text += "\n\n" + "\n".join(refolded(function)) + "\n"
        spaced = not code.startswith("\n") and not code.startswith("def")
        text += "\n\n" if helpers or code.startswith("def") else ""
        text += ("\n" if spaced and not helpers else "") + (code.lstrip("\n") if helpers else code) + "\n"
        return text

    def _functions(self) -> Iterator[str]:
        if self._others:
            lines = rendered([block("def seed_all(seed):", "torch.manual_seed(seed)", *self._others)])
            yield "\n".join(lines) + "\n"
        if self.resumes:
            yield "\n".join(rendered([block("def network(seed):", *self._built("seed"), "return model")])) + "\n"
        if self.shared:
            many = accumulates(self.case)
            head = "def draw(seed, count):" if many else "def batch(seed):"
            function = block(head, *self._drawing("seed", "count"), f"return {'batches' if many else 'x, y'}")
            yield "\n".join(rendered([function])) + "\n"

    def _batch(self) -> tuple[str, str]:
        """Expressions for the samples and the targets of one batch."""
        case, architecture = self.case, self.case.architecture
        dtype = "" if case.dtype == "float32" else f", dtype=torch.{case.dtype}"
        there = "" if self.device == "cpu" else f'.to("{self.device}")'
        shape = ", ".join(map(str, (case.batch, *architecture.input.shape)))
        samples = f"torch.randn({shape}{dtype}){there}{'.requires_grad_()' if case.differentiable_input else ''}"
        if architecture.input.vocabulary:
            samples = f"torch.randint({architecture.input.vocabulary}, ({shape})){there}"
        return samples, f"torch.randn({', '.join(map(str, (case.batch, *architecture.output)))}{dtype}){there}"

    @property
    def _redraws(self) -> list[str]:
        """Seeds again what draws after the batch: a layer, or the optimizer."""
        state = torch.Generator()
        for moment in self.trial.moments:
            drawn = state.manual_seed(self.trial.case.seed * 1000 + moment.number + 1).get_state()
            if any(not seen.generators.startswith(bits(drawn)) for seen in moment.seen.values()):
                break
        else:
            seen = any(isinstance(moment.event, Step) for moment in self.trial.moments)
            if seen and not self._others:  # a crash hides only what is drawn in its own event
                return []
        return [f"{self._seeded('seed')}  # layers and optimizers may draw, too"]

    def _drawing(self, seed: str, count: str) -> list[Statement]:
        """The statements that draw one batch, or `count` of them."""
        samples, targets = self._batch()
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
        if compiles(self.subject):
            yield 'torch.compiler.set_stance("force_eager")  # what torch.compile makes of it is another question'
        layers = [place.layer for place in self.case.architecture.places]
        if self.invariant.id != "equivalent" and any(isinstance(layer, SelfAttention | TransformerEncoderLayer) for layer in layers):
            yield "torch.backends.mha.set_fastpath_enabled(False)  # it rounds otherwise, by requires_grad"
            if self.subject.backward == "create-graph":
                yield "torch.backends.cuda.enable_flash_sdp(False)  # on the CPU too: it cannot be differentiated twice"
        if self._fills or self.case.architecture.input.vocabulary or self.device.startswith("cuda"):
            yield "torch.use_deterministic_algorithms(True, warn_only=True)"
            yield "torch.utils.deterministic.fill_uninitialized_memory = False"

    def _header(self) -> list[str]:
        version = f" {self.subject.version}" if self.subject.version else ""
        breaks = f"{self.subject.name}{version} breaks this, and 0 once it holds"
        if self.invariant.id == "equivalent":
            breaks = f"they differ under {self.subject.name}{version}, and 0 once they do not"
        text = f"{self.invariant.id}: {self.claim.expected}. Exits 1 while {breaks}."
        return textwrap.wrap(" ".join(text.split()), WIDTH, initial_indent="# ", subsequent_indent="# ")


def _draw(line: str) -> tuple[str, str] | None:
    """The seed and the number of the batches that a line draws, if it does."""
    match = re.match(r" *(?:x, y|batches|\(\(x, y\),\)) = (?:batch|draw)\((\w+)(?:, (\d+))?\)$", line)
    return (match[1], match[2] or "1") if match else None


def _looped(events: Sequence[Sequence[Statement]]) -> list[Statement]:
    """The statements of all events; of equal ones that follow each other, one loop."""
    found: list[Statement] = []
    at = 0
    while at < len(events):
        end = at + 1
        pattern, seed = _pattern(events[at])
        while seed and end < len(events) and _pattern(events[end]) == (pattern, _pattern(events[end])[1]) and _pattern(events[end])[1]:
            end += 1
        if end - at > 1:
            seeds = ", ".join(_pattern(each)[1] for each in events[at:end])
            found.append(Block(f"for seed in ({seeds}):", pattern))
        else:
            found += events[at]
        at = end
    return found


def _pattern(statements: Sequence[Statement]) -> tuple[tuple[Statement, ...], str]:
    """The statements with the name `seed` for the seed of their batch, and that seed; empty where the first draws no batch."""
    if not statements or not isinstance(statements[0], str):
        return tuple(statements), ""
    call = _draw(statements[0])
    if call is None:
        return tuple(statements), ""
    return (re.sub(r"\(\d+", "(seed", statements[0], count=1), *statements[1:]), call[0]


def _sorted(imports: Iterable[str]) -> Iterator[str]:
    """The imports as isort has them: the standard library, then the rest."""
    standard = {"sys", "io", "copy", "ctypes", "random", "contextlib"}
    known: list[str] = []
    others: list[str] = []
    for each in sorted(imports, key=lambda line: (line.startswith("from"), line)):
        (known if each.split()[1] in standard else others).append(each)
    torches = [each for each in others if each.split()[1].partition(".")[0] in ("torch", "numpy")]
    yield from known
    yield ""
    yield from torches
    rest = [each for each in others if each not in torches]
    if rest:
        yield ""
        yield from rest
