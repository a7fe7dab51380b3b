"""`frostproof audit`: every planted mistake is told, with lines that show it and one that mends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from frostproof.applications.audit.report import Audit, audit, audit_page
from frostproof.doors.command.main import main

HERE = "tests.helpers.audited"
NAMES = ["backbone.*.weight", "backbone.*.bias"]
PLANTED: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "frozen norm in train mode": (
        {"target": "norm_in_train_mode", "patterns": ["backbone"], "inputs": "4,3"},
        "buffers change",
        "backbone.1: BatchNorm1d in train mode rewrites its buffers",
        "model.backbone[1].eval()",
    ),
    "two frozen norms in train mode": (
        {"target": "norms_in_train_mode", "patterns": ["backbone"], "inputs": "4,3"},
        "buffers change",
        "backbone.0, backbone.2: BatchNorm1d in train mode rewrites its buffers",
        "for each in ['backbone.0', 'backbone.2']: model.get_submodule(each).eval()",
    ),
    "tied head": (
        {"target": "TiedHead", "patterns": ["embedding"], "inputs": f"{HERE}:tokens"},
        "tied",
        "head.weight is the same tensor as embedding.weight",
        "model.head.weight = torch.nn.Parameter(model.head.weight.detach().clone())",
    ),
    "weight norm of the old kind": (
        {"target": "old_weight_norm", "patterns": NAMES, "inputs": "4,3"},
        "only looks frozen",
        "backbone.1.weight is computed from weight_g, weight_v, which train",
        "model.backbone[1].weight_g.requires_grad_(False)",
    ),
    "weight norm of the new kind": (
        {"target": "new_weight_norm", "patterns": ["backbone.?.weight"], "inputs": "4,3"},
        "only looks frozen",
        "backbone.1.weight is computed from parametrizations.weight.original0",
        "model.backbone[1].parametrizations.weight.original0.requires_grad_(False)",
    ),
    "adapters that eval() merges into the base": (
        {"target": "adapter_that_merges", "patterns": NAMES, "inputs": "4,3"},
        "written by modes",
        "model.eval() writes backbone.0.weight, which is frozen",
        "unmerge the adapters",
    ),
    "adapters merged into the base": (
        {"target": "adapter_merged", "patterns": NAMES, "inputs": "4,3"},
        "no gradient",
        "backbone.0.lora_a, backbone.0.lora_b: the forward pass does not use it",
        "unmerge them",
    ),
    "optimizer built before the head was replaced": (
        {
            "target": "correct",
            "patterns": ["backbone"],
            "inputs": "4,3",
            "optimizer": f"{HERE}:optimizer_before_the_head",
        },
        "not in the optimizer",
        "head.weight, head.bias train nowhere: the optimizer does not own them",
        "build the optimizer after",
    ),
    "pattern that misses a bias": (
        {"target": "correct", "patterns": ["backbone.*weight"], "inputs": "4,3"},
        "missed by the pattern",
        "backbone.0.bias trains, although the rest of backbone.0 is frozen",
        "model.backbone[0].bias.requires_grad_(False)",
    ),
    "misspelt attribute": (
        {"target": "misspelt", "patterns": ["backbone"], "inputs": "4,3"},
        "misspelt",
        "head has the attribute requires_grads=False",
        "model.head.requires_grad_(False)",
    ),
    "optimizer that moves what is frozen": (
        {
            "target": "correct",
            "patterns": ["backbone"],
            "inputs": "4,3",
            "optimizer": f"{HERE}:leaky",
        },
        "moved by the optimizer",
        "one step moves backbone.0.weight",
        "only parameters that require grad",
    ),
    "reentrant checkpoint": (
        {"target": "tests.helpers.user_models:CutOff", "patterns": ["below"], "inputs": "4,4"},
        "cut off",
        "inner.0.weight, inner.0.bias, inner.2.weight, inner.2.bias: no gradient comes here",
        "use_reentrant=False",
    ),
}


ALSO = {"weight norm of the new kind": "missed by the pattern"}
"""What the same pattern does as well: it misses the biases."""

BUILT: dict[str, tuple[str, list[str], list[tuple[str, str, str]]]] = {
    "attributes that torch does not read": (
        "freezes_attributes",
        ["backbone"],
        [
            (
                "not frozen",
                "'backbone' is meant to be frozen, and these train: backbone.0.0.weight",
                "model.backbone.requires_grad_(False)",
            ),
            ("misspelt", "backbone has the attribute requires_grad=False", "requires_grad_(False)"),
            ("buffers change", "backbone.1: BatchNorm1d in train mode", "model.backbone[1].eval()"),
        ],
    ),
    "half of a weight norm": (
        "freezes_half_of_weight_norm",
        [],
        [
            (
                "only looks frozen",
                "backbone.1.weight is computed from parametrizations.weight.original0",
                "original0.requires_grad_(False)",
            )
        ],
    ),
    "half of a weight norm, against a pattern": (
        "freezes_half_of_weight_norm",
        ["backbone"],
        [
            (
                "not frozen",
                "these train: backbone.1.parametrizations.weight.original0",
                "model.backbone.requires_grad_(False)",
            )
        ],
    ),
}
"""Models that freeze themselves, what is meant to be frozen, and all mistakes that are told."""


def audited(given: dict[str, Any]) -> Audit:
    target = given["target"]
    return audit(**{**given, "target": target if ":" in target else f"{HERE}:{target}"})


@pytest.mark.parametrize("name", BUILT)
def test_a_model_that_freezes_itself_is_audited_as_it_is(name: str) -> None:
    target, patterns, expected = BUILT[name]
    given = {"target": target, "patterns": patterns, "inputs": "4,3"}
    found = audited({**given, "already_frozen": True})
    mistakes = [each for each in found.statements if each.severity == "mistake"]
    assert [each.subject for each in mistakes] == [subject for subject, _, _ in expected]
    for told, (_, text, remedy) in zip(mistakes, expected, strict=True):
        assert text in told.text
        assert remedy in told.remedy
        names: dict[str, Any] = {}
        exec("\n".join((*found.setup, told.shows[0])), names)
        assert eval(told.shows[1], names), told.shows
    assert not any(each.severity == "mistake" for each in audited(correctly_frozen()).statements)


def correctly_frozen() -> dict[str, Any]:
    return {
        "target": "freezes_right",
        "patterns": ["backbone"],
        "inputs": "4,3",
        "already_frozen": True,
    }


def test_the_page_says_what_is_frozen_and_what_trains() -> None:
    page = audit_page(audited(correctly_frozen()))
    assert "\n    frozen: backbone\n    trains: head\n" in page
    assert "No mistake was found." in page


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_told_with_the_line_that_mends_it(name: str) -> None:
    given, subject, text, remedy = PLANTED[name]
    found = audited(given)
    mistakes = [each for each in found.statements if each.severity == "mistake"]
    told = next(each for each in mistakes if each.subject == subject)
    assert {each.subject for each in mistakes} <= {subject, ALSO.get(name)}
    assert text in told.text
    assert remedy in told.remedy
    names: dict[str, Any] = {}
    exec("\n".join((*found.setup, told.shows[0])), names)
    assert eval(told.shows[1], names), told.shows
    if told.remedy.startswith(("model.", "for ")):
        mended: dict[str, Any] = {}
        exec("\n".join((*found.setup, told.remedy, told.shows[0])), mended)
        assert not eval(told.shows[1], mended), told.remedy


def test_a_correct_model_has_no_mistake_and_notes_what_may_go_wrong() -> None:
    found = audited({"target": "correct", "patterns": ["backbone"], "inputs": "4,3"})
    assert found.mistakes == 0
    subjects = [each.subject for each in found.statements]
    assert subjects == ["leftover gradients", "gradients of zeros", "checkpoints"]
    page = audit_page(found)
    assert page.startswith(
        f"{HERE}:correct: 2 of 4 parameters are frozen\n    frozen: backbone\n    trains: head\n\n"
        "No mistake was found."
    )
    assert "A: requires_grad=False is the cheapest way to freeze here" in page


def test_modules_that_draw_random_numbers_are_noted() -> None:
    found = audited({"target": "dropping", "patterns": ["backbone"], "inputs": "4,3"})
    (note,) = [each for each in found.statements if each.subject == "random numbers"]
    assert note.text.endswith("frozen: in backbone.1 (Dropout)")


def test_an_audit_leaves_the_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    audited({"target": "correct", "patterns": ["backbone"], "inputs": "4,3"})
    assert torch.equal(before, torch.get_rng_state())


def command(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["audit", *arguments])


def test_the_command_prints_the_page_and_writes_the_data(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    words = f"{HERE}:norm_in_train_mode --freeze backbone --input 4,3 --json {path}"
    done = command(*words.split())
    assert done.exit_code == 1, done.output
    assert "MISTAKE: buffers change: backbone.1: BatchNorm1d in train mode" in done.output
    assert "    mend: model.backbone[1].eval()  # after each model.train()" in done.output
    data = json.loads(path.read_text())
    assert (data["format"], data["version"]) == ("frostproof-audit", 1)
    assert command(f"{HERE}:correct", "--freeze", "backbone", "--input", "4,3").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (f"{HERE}:correct --freeze backbon --input 4,3", "Did you mean backbone?"),
        (f"{HERE}:correct --freeze backbone", "no input is known"),
        (f"{HERE}:correct --freeze backbone --input 4,4", "cannot train on the batch '4,4'"),
        (f"{HERE}:corect --freeze backbone --input 4,3", "Did you mean correct?"),
        (
            f"{HERE}:correct --freeze backbone --input 4,3 --optimizer AdmW",
            "torch.optim has no optimizer 'AdmW'",
        ),
        (
            f"{HERE}:correct --freeze backbone --input 4,3 --optimizer {HERE}:failing",
            "cannot be built for the model, ValueError: no rate",
        ),
        (
            f"{HERE}:correct --freeze backbone --input 4,3 --optimizer {HERE}:no_optimizer",
            "returned NoneType: give --optimizer",
        ),
        ("", "MODULE:FACTORY"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: str, said: str) -> None:
    done = command(*arguments.split())
    lines = [line for line in done.output.splitlines() if line.strip()]
    assert done.exit_code == 2, done.output
    assert len(lines) == 1, lines
    assert said in lines[0]
