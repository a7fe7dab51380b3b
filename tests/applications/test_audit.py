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
from frostproof.errors import UsageError

HERE = "tests.helpers.audited"
NAMES = ["backbone.*.weight", "backbone.*.bias"]
ALREADY: dict[str, Any] = {"patterns": ["backbone"], "inputs": "4,3", "already_frozen": True}
PLANTED: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "frozen norm in train mode": (
        {"target": "norm_in_train_mode", "patterns": ["backbone"], "inputs": "4,3"},
        "buffers change",
        "backbone.1: BatchNorm1d in train mode rewrites its buffers",
        "model.backbone.eval()",
    ),
    "two frozen norms in train mode": (
        {"target": "norms_in_train_mode", "patterns": ["backbone"], "inputs": "4,3"},
        "buffers change",
        "backbone.0, backbone.2: BatchNorm1d in train mode rewrites its buffers",
        "model.backbone.eval()",
    ),
    "tied head": (
        {"target": "TiedHead", "patterns": ["embedding"], "inputs": f"{HERE}:tokens"},
        "tied",
        "head.weight is the same tensor as embedding.weight",
        "model.head.weight = torch.nn.Parameter(model.embedding.weight.detach().clone())",
    ),
    "embedding that has two more names": (
        {"target": "TiedTwice", "patterns": ["embedding"], "inputs": f"{HERE}:tokens"},
        "tied",
        "head.weight, last.weight are the same tensor as embedding.weight",
        "model.head.weight = model.last.weight = torch.nn.Parameter(model.embedding.weight.",
    ),
    "frozen norm without parameters": (
        {"target": "norm_without_parameters", "patterns": ["backbone"], "inputs": "4,3"},
        "buffers change",
        "backbone.1: BatchNorm1d in train mode rewrites its buffers",
        "model.backbone.eval()",
    ),
    "gradients from before the freeze": (
        {**ALREADY, "target": "frozen_after_a_step"},
        "leftover gradients",
        "backbone.0.weight, backbone.0.bias: frozen, and still with the gradient of an earlier",
        "for p in model.parameters(): p.grad = None",
    ),
    "pattern that misses many": (
        {"target": "deep", "patterns": ["backbone.*weight"], "inputs": "4,3"},
        "missed by the pattern",
        "backbone.0.bias, backbone.1.bias, backbone.2.bias, backbone.3.bias and 2 more train",
        "for each in ['backbone.0.bias', ",
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
        "build the optimizer from all parameters",
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
            ("buffers change", "backbone.1: BatchNorm1d in train mode", "model.backbone.eval()"),
        ],
    ),
    "tied head that trains the frozen embedding": (
        "trains_a_tied_head",
        ["embedding"],
        [
            (
                "not frozen",
                "embedding.weight; embedding.weight is the same tensor as head.weight",
                "model.head.weight = torch.nn.Parameter(model.embedding.weight.detach().clone()); "
                "model.embedding.requires_grad_(False)",
            )
        ],
    ),
    "parameter that does not move in the first step": (
        "scaled_by_zero",
        ["backbone.0"],
        [("not frozen", "these train: backbone.0.weight", "model.backbone[0].requires_grad_")],
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


def test_an_optimizer_that_comes_with_the_model_is_audited() -> None:
    given = {"target": "freezes_what_leaks", "patterns": [], "inputs": "4,3"}
    found = audited({**given, "already_frozen": True})
    assert "model, optimizer = make_model()" in found.setup
    assert [each.subject for each in found.statements if each.severity == "mistake"] == [
        "moved by the optimizer"
    ]
    # It owns all parameters, so that its checkpoints fit any mask.
    assert "checkpoints" not in [each.subject for each in found.statements]
    another = audited({**given, "already_frozen": True, "optimizer": "SGD"})
    assert not another.mistakes
    with pytest.raises(UsageError, match="no input is known"):
        audited({**given, "already_frozen": True, "inputs": None})


@pytest.mark.parametrize("name", BUILT)
def test_a_model_that_freezes_itself_is_audited_as_it_is(name: str) -> None:
    target, patterns, expected = BUILT[name]
    inputs = f"{HERE}:tokens" if "tied" in target else "4,3"
    given = {"target": target, "patterns": patterns, "inputs": inputs}
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
    return {**ALREADY, "target": "freezes_right"}


def test_the_page_says_what_is_frozen_and_what_trains() -> None:
    page = audit_page(audited(correctly_frozen()))
    assert "\n    frozen: backbone\n    requires grad: head\n" in page
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


def test_patterns_may_leave_out_what_trains() -> None:
    given = {"target": "correct", "inputs": "4,3"}
    but, plain = (audited({**given, "patterns": [each]}) for each in ("!head", "backbone"))
    assert but.frozen == plain.frozen
    assert but.setup == plain.setup
    assert not but.mistakes


def test_a_correct_model_has_no_mistake_and_notes_what_may_go_wrong() -> None:
    found = audited({"target": "correct", "patterns": ["backbone"], "inputs": "4,3"})
    assert found.mistakes == 0
    subjects = [each.subject for each in found.statements]
    assert subjects == ["leftover gradients", "gradients of zeros", "checkpoints"]
    page = audit_page(found)
    assert page.startswith(
        f"{HERE}:correct: 2 of 4 parameters are frozen\n    frozen: backbone\n"
        "    requires grad: head\n\nNo mistake was found."
    )
    assert "A: requires_grad=False is the cheapest way to freeze these" in page


def test_what_trains_before_frozen_modules_is_told_with_the_costs() -> None:
    found = audited({"target": "deep", "patterns": ["backbone.[1-5]"], "inputs": "4,3"})
    page = " ".join(audit_page(found).split())
    assert "as what comes before them trains (backbone.0.weight, backbone.0.bias): with" in page


RESUMES = ": to resume alike, a checkpoint needs torch.get_rng_state(), too"


def test_modules_that_draw_random_numbers_are_noted() -> None:
    found = audited({"target": "dropping", "patterns": ["backbone"], "inputs": "4,3"})
    (note,) = [each for each in found.statements if each.subject == "random numbers"]
    assert (
        note.text == f"each forward pass draws some in frozen parts: backbone.1 (Dropout){RESUMES}"
    )
    assert note.remedy == "model.backbone.eval()  # after each model.train(), while frozen"


def test_only_a_module_that_draws_itself_is_noted() -> None:
    """A parent that draws beside its child is one; a child that is used twice draws nothing."""
    found = audited({"target": "draws_beside_a_child", "patterns": ["backbone"], "inputs": "4,3"})
    (note,) = [each for each in found.statements if each.subject == "random numbers"]
    assert note.text == (
        "each forward pass draws some in frozen parts: backbone.0.1, backbone.0 (Dropout, "
        f"AddsNoise); and in what trains: the model itself (DrawsInHead){RESUMES}"
    )


def test_a_layer_that_is_left_out_at_random_is_not_cut_off() -> None:
    for patterns in (["backbone.0"], ["head"]):
        found = audited({"target": "drops_layers", "patterns": patterns, "inputs": "4,3"})
        assert not found.mistakes, found.statements


def test_a_parameter_for_another_use_is_a_note() -> None:
    found = audited({"target": "has_a_mask_token", "patterns": ["backbone"], "inputs": "4,3"})
    (note,) = [each for each in found.statements if each.subject == "no gradient"]
    assert (note.severity, found.mistakes) == ("note", 0)


def test_a_model_in_eval_mode_is_audited_in_train_mode_too() -> None:
    found = audited({"target": "in_eval_mode", "patterns": ["backbone"], "inputs": "4,3"})
    notes = {each.subject: each.text for each in found.statements}
    assert not found.mistakes
    assert notes["buffers change"].startswith(
        "backbone.1: BatchNorm1d is in eval mode now, and rewrites its buffers once model.train()"
    )
    assert notes["random numbers"].startswith("each forward pass, once model.train() is called,")


def test_a_frozen_norm_that_a_loop_would_put_into_train_mode_is_noted() -> None:
    given = {"target": "freezes_right", "patterns": ["backbone"], "inputs": "4,3"}
    found = audited({**given, "already_frozen": True})
    (note,) = [each for each in found.statements if each.subject == "buffers change"]
    assert (note.severity, found.mistakes) == ("note", 0)
    assert note.remedy == "model.backbone.eval()  # after each model.train(), while frozen"


def test_the_cost_is_that_of_the_model_as_it_is() -> None:
    given = {"target": "nearly_nothing_frozen", "inputs": "4,3", "already_frozen": True}
    one, other = (audited({**given, "patterns": each}).cost for each in ([], ["backbone"]))
    assert one == other != ""
    tokens = {"target": "TiedHead", "patterns": ["body"], "inputs": f"{HERE}:tokens"}
    assert "of the FLOPs that it takes if only the optimizer is told" in audited(tokens).cost


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
    assert (
        "    mend: model.backbone.eval()  # after each model.train(), while frozen" in done.output
    )
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
            "torch.optim has no optimizer 'AdmW': give module:name for others. Did you mean Adam",
        ),
        (
            f"{HERE}:correct --freeze backbone --input 4,3 --optimizer LBFGS",
            "a step of the optimizer 'LBFGS' raised TypeError",
        ),
        (
            f"{HERE}:TiedHead --freeze embedding --freeze body --freeze head.bias "
            f"--input {HERE}:tokens",
            "so that nothing trains (head.weight and others are one tensor): freeze fewer",
        ),
        (
            f"{HERE}:correct --already-frozen --input 4,3",
            "returns a model in which nothing is frozen: freeze it there",
        ),
        (
            f"{HERE}:all_frozen --already-frozen --freeze backbone --input 4,3",
            "the model has all 4 parameters frozen: nothing trains",
        ),
        (
            f"{HERE}:correct --freeze backbone --input 4,3 --optimizer {HERE}:failing",
            "cannot be built for the model, ValueError: no rate",
        ),
        (
            f"{HERE}:correct --freeze backbone --input 4,3 --optimizer {HERE}:leaving",
            "cannot be built for the model, SystemExit: nothing to do",
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
