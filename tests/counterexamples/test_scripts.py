"""Counterexamples convince: each is a script that needs only torch and the library under test."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import Phase, given, settings
from torch.backends import opt_einsum
from torch.optim import SGD, Optimizer

from frostproof.approaches.approach import Approaches
from frostproof.counterexamples import execution
from frostproof.counterexamples.execution import reproduces
from frostproof.counterexamples.network import adapters
from frostproof.counterexamples.script import script, training
from frostproof.errors import UnprintableError
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.targets import exists_on
from frostproof.process.fence import fenced
from frostproof.process.fork_server import FORKS
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import (
    GRU,
    LSTM,
    BatchNorm1d,
    Checkpointed,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    Linear,
    LoRALinear,
    Residual,
    SelfAttention,
    Sequential,
    SpectralNormLinear,
    TiedLinear,
    TransformerEncoderLayer,
    WeightNormLinear,
)
from frostproof.spec.program import (
    Clip,
    Freeze,
    LoadWeights,
    SaveLoad,
    Schedule,
    Scheduler,
    SetLr,
    Step,
    Thaw,
)
from frostproof.spec.subject import Subject
from frostproof.training.bits import bits
from frostproof.trial.lockstep import run_trial
from frostproof.verification.verification import Verification
from tests.helpers.broken import (
    ChoosesAmongFour,
    DecaysEverything,
    ReadsMissingGradient,
    SkipsWithoutEveryGradient,
    Sound,
)
from tests.helpers.kinds import USES
from tests.helpers.script_runs import corrected, lay_out, run_here


def simplest(*program: Any, mask: tuple[str, ...] = ("0.weight",)) -> Case:
    architecture = Architecture(Input((2,)), (Linear(2),))
    return Case(
        architecture, mask, (Group(("0.weight", "0.bias"), (("lr", 0.1),)),), program or (Step(),)
    )


def script_of(case: Case, subject: Subject, invariant: str) -> str:
    """The script of what one trial of the case shows."""
    with fenced("cpu"):
        verification = Verification(subject, "cpu")
        verification.find_violations(case)
        shown = verification.tallies[invariant].shown
        assert shown is not None
        return script(shown, subject)


def test_weights_that_were_loaded_are_not_taken_for_moved_ones(tmp_path: Path) -> None:
    dropping = Step(drop="first")
    case = simplest(dropping, LoadWeights(), dropping, mask=()).replaced(batch=2)
    text = script_of(case, subjects(SkipsWithoutEveryGradient)[0], "trainable-moves")
    path = tmp_path / "script.py"
    path.write_text(text)
    assert run_here(path, "trainable-moves").reproduced
    path.write_text(corrected(text))
    assert run_here(path, "trainable-moves").said == "it exits 0"


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """A folder with the broken optimizers, in which importing frostproof fails."""
    lay_out(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "optimizer", [DecaysEverything, ReadsMissingGradient], ids=lambda optimizer: optimizer.__name__
)
def test_a_script_runs_where_there_is_no_frostproof(optimizer: Any, clean: Path) -> None:
    invariant = {
        DecaysEverything: "frozen-weights-unchanged",
        ReadsMissingGradient: "gradless-step-is-noop",
    }[optimizer]
    text = script_of(simplest(), subjects(optimizer)[0], invariant)
    path = clean / "counterexample.py"
    for source, code in ((text, 1), (corrected(text), 0))[: 1 + (optimizer is DecaysEverything)]:
        path.write_text(source)
        environment = {**os.environ, "PYTHONPATH": str(clean)}
        done = subprocess.run(
            [sys.executable, path],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        assert not code or done.stderr.strip().splitlines()[-1].startswith(f"{invariant}: ")
        assert "Traceback" not in done.stderr
    assert len(text.splitlines()) < 40


def test_a_script_shows_what_happens_in_three_of_four_runs(clean: Path) -> None:
    (subject,), case = subjects(ChoosesAmongFour), simplest().replaced(extras=("again",))
    with fenced("cpu"):
        verification = Verification(subject, "cpu")
        while (shown := verification.tallies["repeats-itself"].shown) is None:
            verification.find_violations(case)
        text = script(shown, subject)
    path = clean / "counterexample.py"
    path.write_text(text)
    said = [run_here(path, "repeats-itself") for _ in range(20)]
    assert all(each.reproduced for each in said), said
    path.write_text(corrected(text))
    assert run_here(path, "repeats-itself").said == "it exits 0"


@pytest.mark.parametrize("forks", [False, True])
def test_what_reproduces_nothing_is_told_apart(
    tmp_path: Path, forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if forks and not FORKS:
        pytest.skip(
            "forks after importing torch are safe on Linux alone: elsewhere each script starts anew"
        )
    monkeypatch.setattr(execution, "FORKS", forks)
    path = tmp_path / "script.py"
    says = {
        "import sys; sys.exit('thaw-resumes: it does not')": (True, "thaw-resumes: it does not"),
        "import sys; sys.exit('another: it does not')": (False, "it exits 1: another: it does not"),
        "pass": (False, "it exits 0"),
        "1 / 0": (False, "it exits 1: ZeroDivisionError: division by zero"),
        "import os; os._exit(3)": (False, "it exits 3"),
        "while True: pass": (False, "it took more than 5 s"),
        # It aborts in a fork alone, which has imported torch.
        "import os, sys\nif 'torch' in sys.modules: os.abort()\n"
        "sys.exit('thaw-resumes: it does not')": (True, "thaw-resumes: it does not"),
        "import sys, warnings; warnings.warn('old'); sys.exit('thaw-resumes: it does not')": (
            True,
            "thaw-resumes: it does not",
        ),
        "import sys; sys.exit('frostproof' in sys.modules"
        " or __name__ != '__main__' or len(sys.argv) != 1)": (
            False,
            "it exits 0",
        ),
        "import os, sys; sys.exit(os.path.dirname(__file__) != os.getcwd()"
        " or os.environ['HOME'] != 'here')": (
            False,
            "it exits 0",
        ),
    }
    monkeypatch.setenv("HOME", "here")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    for text, expected in says.items():
        path.write_text(text)
        assert reproduces(path, "thaw-resumes", tmp_path, timeout=5) == expected


COMPILED = """
import torch
from torch.optim import SGD


@torch.compile
def decayed(p):
    return p * 0.9


class Compiled(SGD):
    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.copy_(decayed(p))
        return super().step(closure)
"""


def test_what_is_compiled_is_run_as_it_was_when_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "compiledlib.py").write_text(COMPILED)
    monkeypatch.syspath_prepend(tmp_path)
    compiled = importlib.import_module("compiledlib").Compiled
    text = script_of(
        simplest(), subjects(compiled, "compiledlib:Compiled")[0], "frozen-weights-unchanged"
    )
    assert text.count('torch.compiler.set_stance("force_eager")') == 1
    path = tmp_path / "counterexample.py"
    path.write_text(text)
    execution = reproduces(
        path, "frozen-weights-unchanged", tmp_path, timeout=30, module="compiledlib"
    )
    assert execution.reproduced, execution.said


def test_sums_of_products_are_taken_in_the_order_in_which_the_trial_took_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "summing.py").write_text(COMPILED.replace("p * 0.9", 'torch.einsum("...->...", p)'))
    monkeypatch.syspath_prepend(tmp_path)
    summing = subjects(importlib.import_module("summing").Compiled, "summing:Compiled")[0]
    line = "torch.backends.opt_einsum.enabled = False"
    for available in (True, False):
        monkeypatch.setattr(opt_einsum, "is_available", lambda available=available: available)
        text = training(simplest(), summing, "a")
        assert (line in text) == available
    assert line not in training(simplest(), subjects(SGD)[0], "a")


@pytest.mark.parametrize(
    "body",
    ["raise ValueError", "import sys; sys.exit(0)", "import os; os._exit(0)", "while True: pass"],
)
def test_a_library_that_cannot_be_imported_costs_its_script_alone(
    body: str, tmp_path: Path
) -> None:
    (tmp_path / "odd.py").write_text(body)
    path = tmp_path / "script.py"
    path.write_text("import odd")
    assert not reproduces(path, "thaw-resumes", tmp_path, timeout=5, module="odd").reproduced
    path.write_text("import sys; sys.exit('thaw-resumes: it does not')")
    assert reproduces(path, "thaw-resumes", tmp_path, timeout=30).reproduced


def test_what_cannot_be_written_down_says_why() -> None:
    def local(parameters: Any, **options: Any) -> Any:
        return DecaysEverything(parameters, **options)

    for factory in (
        local,
        lambda parameters, **options: DecaysEverything(parameters, **options),  # noqa: PLW0108
        functools.partial(local),
    ):
        with pytest.raises(UnprintableError, match="cannot be imported by name"):
            script_of(simplest(), Subject("here:it", factory), "frozen-weights-unchanged")
    given = Subject(
        "tests.helpers.broken:DecaysEverything",
        DecaysEverything,
        arguments={"weight_decay": torch.tensor(0.0)},
    )
    with pytest.raises(UnprintableError, match=r"tensor\(0.\) cannot be written down"):
        script_of(simplest(), given, "frozen-weights-unchanged")


def test_a_partial_of_a_class_is_written_down() -> None:
    factory = functools.partial(DecaysEverything, lr=0.5)
    given = Subject("here:it", factory, takes="parameters")
    text = script_of(simplest(), given, "frozen-weights-unchanged")
    assert "import functools\n" in text
    assert "functools.partial(DecaysEverything, lr=0.5)(" in text


EVERYTHING = (
    Architecture(
        Input((4, 4)),
        (
            LSTM(4),
            GRU(4),
            SelfAttention(2),
            TransformerEncoderLayer(2, 3),
            Residual((LayerNorm(), Linear(4))),
            Checkpointed((Linear(4), Dropout()), reentrant=True),
            BatchNorm1d(),
            Sequential((Flatten(), WeightNormLinear(3), SpectralNormLinear(3, legacy=True))),
            LoRALinear(3),
            Linear(3, bias=False),
            TiedLinear(3, of=11, bias=True),
        ),
    ),
    Architecture(
        Input((3,), vocabulary=5),
        (Embedding(5, 4), Linear(4), WeightNormLinear(4, legacy=True), TiedLinear(5, of=0)),
    ),
)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("architecture", EVERYTHING, ids=["layers", "tokens"])
def test_a_script_has_all_that_its_network_is_built_from(
    architecture: Architecture, dtype: str
) -> None:
    torch.manual_seed(7)
    built = architecture.build("cpu", dtype)
    names: dict[str, Any] = {}
    imports, definitions = adapters(architecture)
    exec("\n".join(["import torch", "from torch import nn", *imports, *definitions]), names)
    torch.manual_seed(7)
    exec("\n".join(architecture.source("cpu", dtype)), names)
    written = names["model"]
    assert [name for name, _ in written.named_parameters()] == [
        parameter.name for parameter in architecture.parameters
    ]
    for one, other in zip(built.parameters(), written.parameters(), strict=True):
        assert one.dtype == other.dtype == getattr(torch, dtype)
        assert torch.equal(one, other)


PROGRAM = (
    Step(set_to_none=False, micro_batches=2),
    Freeze(("0.weight",), "left"),
    Step(amp="scaler", after_backward=(Clip("norm", "all"),)),
    SetLr(0.5),
    Schedule("StepLR"),
    SaveLoad(),
    Step(amp="overflow"),
    Thaw(("0.weight",)),
    Step(drop="first", zeroed_by="model"),
    Step(closure=True, micro_batches=2),
)


PROGRAMS = {
    "everything": PROGRAM,
    **{
        name: (Step(), *(event for _ in range(3) for event in (Schedule(name), Step())))
        for name in get_args(Scheduler)
    },
}
ROLES = ("a", "b", "cleared", "second", "rebuilt", "resumed", "resumed-b")


def ends(case: Case, subject: Subject) -> None:
    """Every role's script, run by itself, ends at the weights at which the trial ended."""
    extras = (*dict.fromkeys((*case.extras, "again")),)
    with fenced("cpu"):
        trial = run_trial(case.replaced(extras=extras), subject, "cpu", (), Approaches()).trial
    if trial.crash is not None:
        return
    last = trial.records[-1].observations
    if last["again"].weights != last["a"].weights:
        return  # some kernels of torch read memory that nothing has written, in bfloat16 at least
    for role in trial.names:
        if role == "again":
            continue
        with fenced("cpu"):
            text = training(case, subject, role)
            names: dict[str, Any] = {"__name__": "script"}
            exec(text, names)
            model: Any = names["model"]
            assert (
                tuple(map(bits, model.parameters())) == trial.records[-1].observations[role].weights
            ), role


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_script_trains_bit_for_bit_as_the_trial_does(program: str) -> None:
    ends(
        simplest(*PROGRAMS[program], mask=("0.bias",)).replaced(
            extras=("cleared", "second", "rebuilt"), seed=3
        ),
        subjects(Sound)[0],
    )


@pytest.mark.parametrize("protocol", USES, ids=lambda protocol: protocol.__name__)
def test_a_script_trains_bit_for_bit_as_the_trial_does_under_every_protocol(
    protocol: type[Optimizer],
) -> None:
    with fenced("cpu"):
        verification = Verification(
            next(each for each in subjects(protocol) if exists_on(each, "cpu")), "cpu"
        )
        verification.prepare()

    @settings(max_examples=5, database=None, phases=(Phase.generate,), derandomize=True)
    @given(verification.cases)
    def check(case: Case) -> None:
        ends(case.replaced(extras=("cleared", "second", "rebuilt")), verification.subject)

    check()
