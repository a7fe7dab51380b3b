"""`check --model`: a user's own model in the place of drawn networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from torch import nn

from frostproof.counterexamples.execution import reproduces
from frostproof.doors.python import check_optimizer
from frostproof.errors import CaseError, UnusableError, UsageError
from frostproof.generation.cases import cases
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.probe import probe
from frostproof.optimizers.targets import resolve_setting
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.casefile import CaseFile, load_case, save
from frostproof.spec.layers import Linear
from frostproof.spec.program import SaveLoad, Step
from frostproof.spec.user_model import ModelUnderTest, UserModel
from frostproof.training.trying import model_under_test
from frostproof.verification.replay import replay
from frostproof.verification.reproduction import reproductions
from frostproof.verification.search import search_violations
from frostproof.verification.verification import Verification
from tests.helpers import consumer, user_models, warm
from tests.helpers.broken import DecaysEverything, Sound
from tests.helpers.models import ResNet
from tests.helpers.search import flagged

HERE = "tests.helpers.user_models"
MODELS: dict[str, dict[str, Any]] = {
    "sizes": {"target": f"{HERE}:ResNet", "patterns": ["layer1"], "inputs": "2, 3, 6, 6"},
    "inputs of the factory": {"target": "tests.helpers.models:classifier", "patterns": ["lstm.*"]},
    "named inputs": {
        "target": f"{HERE}:Tied",
        "patterns": ["encoder"],
        "inputs": f"{HERE}:named_batch",
    },
    "tied, with a training step": {
        "target": f"{HERE}:Tied",
        "patterns": ["head.weight"],
        "inputs": f"{HERE}:named_batch",
        "step": f"{HERE}:loss_of_tokens",
    },
    "cut off": {"target": f"{HERE}:CutOff", "patterns": ["below"], "inputs": "3,4"},
    "frozen already": {"target": f"{HERE}:frozen_already", "patterns": ["layer1.bn1"]},
    "a model itself": {"target": f"{HERE}:READY", "patterns": ["body.0", "norm"], "inputs": "4,3"},
}


def verified(optimizer: Any, model: ModelUnderTest, only: str | None = None) -> Verification:
    (subject,) = subjects(optimizer)
    verification = Verification(subject, "cpu", model=model, only_invariant=only)
    with fenced("cpu"):
        verification.prepare()
        search_violations(verification, 12, 1)
    return verification


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_found_in_a_correct_optimizer(name: str) -> None:
    verification = verified(Sound, model_under_test(**MODELS[name]))
    assert flagged(verification) == {}
    assert verification.rejected_cases == 0, verification.rejection_reason
    judged = {identity for identity, tally in verification.tallies.items() if tally.judged}
    assert {"frozen-weights-unchanged", "trainable-updates-match", "flags-untouched"} <= judged


@pytest.mark.parametrize("name", MODELS)
def test_what_is_found_has_a_script_and_a_case_file(name: str, tmp_path: Path) -> None:
    model = model_under_test(**MODELS[name])
    verification = verified(DecaysEverything, model, "frozen-weights-unchanged")
    assert "frozen-weights-unchanged" in flagged(verification)
    found = reproductions(verification, tmp_path)
    assert all(each.text and not each.doubtful for each in found.values()), found
    script = found["frozen-weights-unchanged"].text
    assert script is not None
    module, _, factory = MODELS[name]["target"].partition(":")
    assert f"from {module} import {factory} as make_model" in script
    assert "frostproof" not in script.replace("frozen", "").partition("import sys")[2]
    smallest = verification.tallies["frozen-weights-unchanged"].case
    assert smallest is not None
    assert len(smallest.program) == 1
    assert len(smallest.mask) == 1
    assert len(smallest.groups) == 1
    assert Case.from_json(smallest.to_json()) == smallest
    assert eval(repr(smallest), _names()) == smallest


@pytest.mark.parametrize("setting", ["ddp", "fsdp2"])
def test_ranks_train_it_each_on_batches_of_its_own(setting: str, tmp_path: Path) -> None:
    model = model_under_test(**MODELS["sizes"])
    case = Case(
        model.network,
        mask=tuple(model.frozen),
        groups=(Group(tuple(each.name for each in model.network.parameters)),),
        program=(Step(), Step(), SaveLoad(), Step()),
        seed=1,
    )
    for optimizer in (Sound, DecaysEverything):
        (subject,) = subjects(optimizer)
        subject = replace(subject, setting=resolve_setting(setting))
        verification = Verification(subject, "cpu", model=model)
        with fenced("cpu", subject.setting):
            verification.find_violations(case)
        assert verification.rejected_cases == 0, verification.rejection_reason
        if optimizer is Sound:
            assert flagged(verification) == {}
            assert verification.tallies["trainable-updates-match"].judged
    assert "frozen-weights-unchanged" in flagged(verification)
    found = reproductions(verification, tmp_path)
    assert all(each.text and not each.doubtful for each in found.values()), found


def _names() -> dict[str, Any]:
    from frostproof.spec import case, program, user_model

    return {**vars(program), **vars(user_model), **vars(case)}


def test_masks_are_drawn_around_the_pattern() -> None:
    model = model_under_test(f"{HERE}:ResNet", ["layer1", "stem.bias"], "2,3,6,6")
    names = [each.name for each in model.network.parameters]
    matches = {name for name in names if name.startswith("layer1.") or name == "stem.bias"}
    assert {*model.frozen} == matches
    (subject,) = subjects(Sound)
    with fenced("cpu"):
        subject = probe(subject, "cpu")
    seen: set[frozenset[str]] = set()

    @settings(max_examples=150, database=None, derandomize=True, phases=(Phase.generate,))
    @given(cases(subject, model))
    def draws(case: Case) -> None:
        case.check()
        assert case.architecture is model.network
        seen.add(frozenset(case.mask))

    draws()
    assert {frozenset(matches), frozenset(names), frozenset()} <= seen
    assert frozenset({"layer1.bn1.weight", "layer1.bn1.bias"}) in seen
    assert any(len(mask) == 1 for mask in seen)
    assert any(mask < matches and len(mask) == len(matches) - 2 for mask in seen)
    assert any(matches < mask < {*names} for mask in seen)


def test_an_optimizer_that_cannot_train_the_model_is_not_judged() -> None:
    model = model_under_test(f"{HERE}:ResNet", ["layer1"], "2,3,6,6")
    with pytest.raises(UnusableError, match=r"it cannot train stem.weight .* matrices only"):
        verified(torch.optim.Muon, model)


MINE = """
import torch
from torch import nn

from tests.helpers.user_models import *
from tests.helpers.broken import DecaysEverything
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


ROOT = str(Path(__file__).parents[2])


def test_the_command_writes_a_case_that_replays(folder: Path) -> None:
    model = ("--model", "mine:ResNet", "--freeze", "stem", "--input", "2,3,6,6")
    options = ("--max-examples", "10", "--seed", "1", "--jobs", "0")
    done = consumer.check(folder, "mine:DecaysEverything", *model, *options, PYTHONPATH=ROOT)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "WRONG mine:DecaysEverything on cpu: frozen-weights-unchanged" in done.stdout
    assert "mine:ResNet(),  # " in done.stdout
    path = next((folder / "frostproof-cases").glob("*frozen-weights-unchanged.json"))
    assert reproduces(
        path.with_suffix(".py"), "frozen-weights-unchanged", folder, [ROOT]
    ).reproduced
    words = warm.frostproof("replay", str(path))
    again = consumer.run(folder, words, PYTHONPATH=ROOT)
    assert again.returncode == 1, again.stdout + again.stderr
    assert "STILL VIOLATED" in again.stdout
    (folder / "mine.py").write_text(f"{MINE}\nResNet = Odd\n")
    other = consumer.run(folder, words, PYTHONPATH=ROOT)
    assert other.returncode == 2, other.stdout + other.stderr
    assert "returns a model with other parameters than the case has" in other.stderr
    (folder / "mine.py").write_text(MINE)
    page = folder / "page.html"
    report = warm.frostproof("report", "out.json", "--html", str(page))
    assert consumer.run(folder, report).returncode == 0
    assert "mine:ResNet()" in page.read_text()


def test_python_takes_the_model_as_a_function(tmp_path: Path) -> None:
    report = check_optimizer(
        DecaysEverything,
        max_examples=10,
        devices=["cpu"],
        seed=1,
        model=user_models.Tied,
        freeze="encoder",
        input=user_models.named_batch,
        training_step=user_models.loss_of_tokens,
        cases=tmp_path,
    )
    rows = {row.id: row for row in report.rows[0].invariants}
    found = rows["frozen-weights-unchanged"]
    assert (found.status, rows["no-graph-below"].judged) == ("violated", 0)
    network = load_case(Path(str(found.case))).case.architecture
    assert isinstance(network, UserModel)
    names = (network.factory, network.inputs, network.step)
    assert names == (f"{HERE}:Tied", f"{HERE}:named_batch", f"{HERE}:loss_of_tokens")
    assert found.reproducer is not None
    assert "as make_model" in Path(found.reproducer).read_text()


def test_python_takes_sizes_and_names() -> None:
    report = check_optimizer(
        Sound,
        max_examples=5,
        devices=["cpu"],
        model=f"{HERE}:ResNet",
        freeze=["layer1", "stem.bias"],
        input=(2, 3, 6, 6),
        cases=None,
    )
    assert report.ok


def test_expected_failures_of_an_optimizer_are_not_searched_in_a_model() -> None:
    report = check_optimizer(
        Sound,
        max_examples=5,
        devices=["cpu"],
        model=ResNet,
        freeze="layer1",
        input="2,3,6,6",
        expected_failures={"thaw-resumes": "on other networks"},
    )
    assert report.ok


def _local() -> nn.Module:
    return ResNet()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"freeze": "stem"}, "freeze is about a model"),
        ({"model": lambda: None}, "which scripts cannot import"),
        ({"model": user_models.READY, "freeze": "norm"}, "which scripts cannot import"),
        ({"model": _local, "freeze": "stem", "input": (2, 0)}, "give the sizes of a batch"),
        ({"way": "nowhere:freeze"}, "unknown module 'nowhere'"),
    ],
)
def test_wrong_usage_of_python_is_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        check_optimizer(Sound, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--model mine:ResNet --freeze stam --input 2,3,6,6", "Did you mean stem?"),
        ("--model mine:Resnet --freeze stem --input 2,3,6,6", "Did you mean ResNet?"),
        (
            "--model mine:raising --freeze stem --input 2",
            "raised ValueError: no weights at user_models.py:",
        ),
        ("--model mine:leaving --freeze stem --input 2", "raised SystemExit"),
        ("--model mine:ResNet --freeze stem", "no input is known: give its shape"),
        ("--model mine:ResNet --freeze stem --input 2,x", "give the sizes of a batch"),
        ("--model mine:ResNet --freeze stem --input 2,4,6,6", "cannot train on the batch '2,4,6"),
        ("--model mine:Tied --freeze head --input mine:batch", "unknown input 'mine:batch'"),
        (
            "--model mine:ResNet --freeze stem --input 2,3,6,6 --training-step mine:several",
            "it must be one number with a graph",
        ),
        ("--model mine:Wide --freeze bias --input 1,2000", "at most 1,000,000"),
        ("--model mine:dashes --freeze c --input 1", "name modules by identifiers"),
        ("--model mine:doubles --freeze 0 --input 1,2", "return a model of float32 on the CPU"),
        ("--freeze stem", "freeze is about a model: give model, as module:factory, too"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(folder: Path, given: str, said: str) -> None:
    done = consumer.check(folder, "torch.optim:SGD", *given.split(), PYTHONPATH=ROOT)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert said in lines[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("stem.weight", "stem).x or exit("),
        (f"{HERE}:ResNet", "os:system;x"),
        ("2,3,6,6", "2,3);exit("),
    ],
)
def test_a_case_file_cannot_bring_code(old: str, new: str) -> None:
    network = model_under_test(f"{HERE}:ResNet", ["layer1"], "2,3,6,6").network
    (subject,) = subjects(Sound)
    with fenced("cpu"):
        subject = probe(subject, "cpu")
    found: list[Case] = []

    @settings(max_examples=1, database=None, derandomize=True)
    @given(cases(subject, ModelUnderTest(network, ("stem.weight",))))
    def draw(case: Case) -> None:
        found.append(case)

    draw()
    text = found[0].to_json()
    assert Case.from_json(text) == found[0]
    with pytest.raises(CaseError):
        Case.from_json(text.replace(old, new))


def test_case_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    network = Architecture(Input((2,)), (Linear(2),))
    case = Case(network, ("0.bias",), (Group(("0.weight", "0.bias")),), (Step(),))
    saved = CaseFile(
        target="torch.optim:SGD",
        variant="forloop",
        device="cpu",
        invariant="frozen-weights-unchanged",
        message=None,
        case=case,
    )
    path, _ = save(tmp_path, saved)
    text = path.read_text()
    start, end = text.index('"kind": "Architecture",'), len('"kind": "Architecture",')
    path.write_text(text[:start] + text[start + end :])
    assert load_case(path).case == case
    assert replay(load_case(path)).outcome == "FIXED"
