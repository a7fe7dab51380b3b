"""Targets: what is found, in which implementations, and what is said where nothing can be had."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from frostproof.doors.pytest_plugin.items import parse_node_id
from frostproof.errors import UnusableError, UsageError
from frostproof.optimizers.probe import probe
from frostproof.optimizers.targets import left_out, resolve, torch_optimizers
from frostproof.process.device import available_devices, select_devices
from frostproof.verification.verification import Verification


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mylib_for_tests.py").write_text(
        "import torch\n"
        "from torch.optim import SGD, Optimizer\n"
        "class Lion(SGD): pass\n"
        "class NoOptimizer: pass\n"
        "NUMBER = 3\n"
        "def built(params): return SGD(params, lr=0.1)\n"
        "from frostproof import Subject\n"
        "ready = Subject(target='Lion with momentum', factory=Lion, "
        "arguments={'momentum': 0.9}, variant='with-momentum')\n"
    )
    (tmp_path / "broken_for_tests.py").write_text("raise RuntimeError('cannot be\\nimported')\n")
    (tmp_path / "script_for_tests.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mylib_for_tests", None)


def test_every_optimizer_class_of_torch_is_found() -> None:
    classes = {
        f"torch.optim:{name}"
        for name, found in vars(torch.optim).items()
        if isinstance(found, type)
        and issubclass(found, torch.optim.Optimizer)
        and found is not torch.optim.Optimizer
    }
    assert {subject.target for subject in torch_optimizers()} == classes
    assert len(classes) >= 15


def test_a_class_that_torch_adds_is_picked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Newest(torch.optim.SGD):
        pass

    Newest.__module__ = "torch.optim.newest"
    monkeypatch.setattr(torch.optim, "Newest", Newest, raising=False)
    monkeypatch.setattr(torch.optim, "__all__", [*torch.optim.__all__, "Newest"], raising=False)
    assert "torch.optim:Newest" in {subject.target for subject in torch_optimizers()}


def test_a_subject_that_is_named_takes_the_place_of_its_class_in_a_module(tmp_path: Path) -> None:
    (tmp_path / "stated_for_tests.py").write_text(
        "import frostproof, mylib_for_tests\n"
        "OWN = frostproof.Subject(target='mylib_for_tests:Lion', factory=mylib_for_tests.Lion)\n"
    )
    sys.modules.pop("stated_for_tests", None)
    for own in ("stated_for_tests:OWN", "stated_for_tests:*"):
        both = resolve(["mylib_for_tests:*", own])
        assert [each.target for each in both] == ["mylib_for_tests:ready", "stated_for_tests:OWN"]
    named = resolve(["mylib_for_tests:Lion", "stated_for_tests:OWN"])
    assert "mylib_for_tests:Lion" in {each.target for each in named}


def test_a_module_of_subjects_may_import_the_classes_that_they_are_about(tmp_path: Path) -> None:
    package = tmp_path / "package_for_tests"
    package.mkdir()
    (package / "__init__.py").write_text("from .optim import Robin, Wren\n")
    (package / "optim.py").write_text(
        "import frostproof, torch\n"
        "class Robin(torch.optim.SGD): pass\n"
        "class Wren(torch.optim.SGD): pass\n"
        "class Late(torch.optim.SGD): pass\n"
        "LATE = frostproof.Subject(target='package_for_tests.optim:Late', factory=Late)\n"
    )
    (package / "stated.py").write_text(
        "import frostproof\n"
        "from package_for_tests.optim import Wren\n"
        "SUBJECTS = frostproof.subjects(Wren, arguments={'momentum': 0.5}, variant='default')\n"
        "WREN = SUBJECTS[0]\n"
    )
    for name in [each for each in sys.modules if each.startswith(package.name)]:
        del sys.modules[name]

    def found(*targets: str) -> set[str]:
        return {each.target.removeprefix("package_for_tests") for each in resolve(targets)}

    (package / "named.py").write_text(
        "import frostproof\n"
        "from package_for_tests.optim import Robin\n"
        "class Wraps:\n"
        "    def step(self): pass\n"
        "    def zero_grad(self): pass\n"
        "OWN = frostproof.Subject(target='package_for_tests.named:OWN', factory=Robin)\n"
    )
    assert found("package_for_tests.named:*") == {".named:OWN"}, "it has its own name"
    (left,) = left_out(["package_for_tests.named:*", "package_for_tests.optim:Wren"])
    assert left.startswith("package_for_tests.named:Wraps is left out")
    assert found("package_for_tests.stated:*") == {".stated:WREN"}
    both = found("package_for_tests:*", "package_for_tests.stated:*")
    assert both == {":Robin", ".stated:WREN"}
    assert found("package_for_tests.optim:*") == {".optim:Robin", ".optim:Wren", ".optim:LATE"}


def test_implementations_are_subjects_of_their_own() -> None:
    variants = {subject.variant for subject in resolve(["torch.optim:Adam"])}
    assert variants == {"forloop", "foreach", "fused", "capturable", "differentiable"}
    assert {subject.variant for subject in resolve(["torch.optim:LBFGS"])} == {
        "default",
        "strong_wolfe",
    }


def test_a_star_means_what_the_module_defines_itself() -> None:
    assert {subject.target for subject in resolve(["mylib_for_tests:*"])} == {
        "mylib_for_tests:Lion",
        "mylib_for_tests:ready",
    }


def test_a_star_means_the_subjects_of_a_module_that_defines_no_optimizer(tmp_path: Path) -> None:
    (tmp_path / "subjects_for_tests.py").write_text(
        "import frostproof, mylib_for_tests\n"
        "LION = frostproof.Subject('x:Y', mylib_for_tests.Lion)\n"
    )
    assert [subject.target for subject in resolve(["subjects_for_tests:*"])] == [
        "subjects_for_tests:LION"
    ]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("no_such_module_anywhere:Lion", "unknown module"),
        ("mylib_for_test:Lion", "Did you mean mylib_for_tests?"),
        ("mylib_for_tests:Lino", "Did you mean Lion?"),
        ("src/mylib.py:Lion", "as mylib:Lion, and run in the folder"),
        ("./mylib/__init__.py:Lion", "as mylib:Lion, and run in the folder"),
        ("profil:Lion", "or run where it can be imported."),
        ("broken_for_tests:Lion", "raised RuntimeError: cannot be imported"),
        ("script_for_tests:Lion", "raised SystemExit: 0"),
        ("mylib_for_tests:NoOptimizer", "not an optimizer"),
        ("mylib_for_tests:NUMBER", "type int"),
        ("mylib_for_tests", "write module:Name"),
        (":Lion", "write module:Name"),
        ("torch.optim:Optimizer", "abstract"),
        ("json:*", "exports no optimizer class, and has no Subject"),
    ],
)
def test_what_cannot_be_had_gets_one_line(target: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve([target])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_function_that_builds_an_optimizer_is_a_target() -> None:
    (subject,) = resolve(["mylib_for_tests:built"])
    assert probe(subject, "cpu").parameters == "any"


def test_a_subject_is_a_target_and_is_named_as_the_user_names_it() -> None:
    (subject,) = resolve(["mylib_for_tests:ready"])
    assert (subject.target, subject.variant, subject.arguments) == (
        "mylib_for_tests:ready",
        "with-momentum",
        {"momentum": 0.9},
    )
    item = parse_node_id(f"x.py::test_optimizer[{Verification(subject, 'cpu', shard=1).id}]")
    assert item == ("mylib_for_tests:ready", "with-momentum", "cpu")


def test_the_probe_finds_what_an_optimizer_can_do() -> None:
    found = {subject.name: subject for subject in torch_optimizers()}
    assert probe(found["torch.optim:Muon"], "cpu").parameters == "matrices"
    assert probe(found["torch.optim:SparseAdam"], "cpu").parameters == "sparse"
    assert probe(found["torch.optim:LBFGS"], "cpu").closure == "required"
    assert not probe(found["torch.optim:LBFGS"], "cpu").groups
    assert probe(found["torch.optim:AdamW fused"], "cpu").dtypes == (
        "float32",
        "float64",
        "bfloat16",
    )


def test_what_cannot_step_is_unusable_with_its_reason() -> None:
    found = {subject.name: subject for subject in torch_optimizers()}
    with pytest.raises(
        UnusableError, match="leaf Variable that requires grad is being used in an in-place"
    ):
        probe(found["torch.optim:SGD differentiable"], "cpu")


def test_devices() -> None:
    assert available_devices()[0] == "cpu"
    for absent in ("cuda:77", "cpu:1", "nonsense", "meta"):
        with pytest.raises(UsageError, match="is absent: found cpu"):
            select_devices([absent])
