"""Stated subjects: fields are checked, and registered ones are used for their targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st

import frostproof
from frostproof.optimizers import registry
from frostproof.optimizers.statement import statement
from frostproof.optimizers.targets import resolve
from frostproof.spec.subject import values_of
from frostproof.verification.verification import Verification
from tests.helpers.broken import DecaysEverything, Sound
from tests.helpers.search import search

PLUGIN = """
import frostproof
from tests.helpers.broken import Sound

SUBJECTS = [frostproof.Subject("brought:Sound", Sound, arguments={"lr": 0.1})]

def make():
    return frostproof.Subject("brought:Made", Sound)
"""


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"takes": "tensors"}, "takes is 'tensors': give one of parameters,"),
        ({"closure": "maybe"}, "closure is 'maybe': give one of never,"),
        ({"backward": "twice"}, "backward is 'twice'"),
        ({"parameters": "3d"}, "parameters is '3d'"),
        ({"unable": ("Fly",)}, "unable has 'Fly': give some of SaveLoad,"),
        ({"dtypes": ("float8",)}, "dtypes has 'float8'"),
        ({"dtypes": ()}, "dtypes is empty"),
        ({"keys": {"use_muon": True}}, "keys is {'use_muon': True}: give a function"),
        ({"space": 0.1}, 'give {"lr": [0.1, 0.01]}'),
        (
            {"space": ((((("learning_rate"), 0.1),),),)},
            "space names 'learning_rate', which is no argument of it: give lr, momentum",
        ),
        (
            {"expected_failures": {"thaw-resume": "why"}},
            "names them. Did you mean thaw-resumes?",
        ),
        ({"takes": "optimizer"}, "takes='optimizer' and base belong together"),
        (
            {"takes": "two-lists"},
            "takes='two-lists' has no groups: give groups=False and per_parameter=False",
        ),
        ({"patience": 0}, "patience is 0"),
        ({"expected_failures": {"no-such": "why"}}, "'no-such' is not an invariant"),
        ({"expected_failures": {"thaw-resumes": " "}}, "'thaw-resumes' has no reason"),
        (
            {"known_cases": {"thaw-resumes": "case.json"}},
            "which is not an expected failure: give its reason",
        ),
        (
            {
                "expected_failures": {"thaw-resumes": "why"},
                "known_cases": {"thaw-resumes": "gone.json"},
            },
            "gone.json: no such file: name a case file",
        ),
    ],
)
def test_a_wrong_field_is_one_line(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(frostproof.UsageError) as raised:
        frostproof.Subject("mylib:Lion", Sound, **fields)
    assert says in str(raised.value)
    assert str(raised.value).startswith("Subject 'mylib:Lion': ")
    assert "\n" not in str(raised.value)


def test_a_known_case_is_tried_first_and_is_all_that_it_takes() -> None:
    subject = next(each for each in resolve(["torch.optim:LBFGS"]) if each.variant == "default")
    verification = Verification(subject, "cpu", only_invariant="frozen-weights-unchanged")
    search(verification, 0, "frozen-weights-unchanged")
    assert (
        verification.trials == verification.tallies["frozen-weights-unchanged"].violated
    )  # the first, and it again


def test_expected_failures_that_are_given_stand_for_those_on_record() -> None:
    for subject in frostproof.subjects(torch.optim.LBFGS, expected_failures={}):
        assert not subject.expected_failures
        assert not subject.known_cases


def test_values_by_name_are_choices_of_their_own_and_printed_so() -> None:
    space: dict[str, Any] = {"lr": [0.25, 0.125], "betas": (0.5, 0.9), "momentum": [0.0]}
    choices = (
        ((("lr", 0.25),), (("lr", 0.125),)),
        ((("betas", (0.5, 0.9)),),),
        ((("momentum", 0.0),),),
    )
    subject = frostproof.Subject("torch.optim:SGD", lambda *_, **__: None, space=space)
    assert subject.space == choices
    assert values_of(choices) == {"lr": [0.25, 0.125], "betas": [(0.5, 0.9)], "momentum": [0.0]}
    text = statement(
        frostproof.Subject("a:b", torch.optim.SGD, space={"lr": [0.1]}), unusable=False
    )
    assert '    space={"lr": [0.1]},\n' in text
    together = (((("momentum", 0.9), ("nesterov", True)),),)
    assert values_of(together) is None


def test_hyperparameters_are_drawn_from_a_strategy() -> None:
    space = st.fixed_dictionaries(
        {"lr": st.sampled_from((0.25, 0.125)), "momentum": st.floats(0.0, 0.5)}
    )
    verification = Verification(frostproof.Subject("mylib:Sound", Sound, space=space), "cpu")
    seen: list[dict[str, Any]] = []

    def noting(case: bytes) -> None:
        seen.extend(dict(group.options) for group in frostproof.Case.from_json(case).groups)

    verification.note_case = noting
    search(verification, seed=0)
    assert {options["lr"] for options in seen} == {0.25, 0.125}
    assert all(0.0 <= options["momentum"] <= 0.5 for options in seen)


def test_what_is_registered_stands_for_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {})
    one = frostproof.Subject("tests.helpers.planted:Sound", Sound, arguments={"lr": 0.25})
    other = frostproof.Subject("tests.helpers.planted:Sound", Sound, arguments={"lr": 0.5})
    frostproof.register(one)
    assert resolve(["tests.helpers.planted:Sound"]) == [one]
    frostproof.register(other)
    assert resolve(["tests.helpers.planted:Sound"]) == [other]
    with pytest.raises(frostproof.UsageError, match=r"give a frostproof\.Subject"):
        frostproof.register(Sound)  # type: ignore[arg-type]


def test_entry_points_bring_subjects_and_one_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brought.py").write_text(PLUGIN)
    (tmp_path / "fails_to_import.py").write_text("raise OSError('no such library')\n")
    info = tmp_path / "brought-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    points = [
        "listed = brought:SUBJECTS",
        "made = brought:make",
        "bad = fails_to_import:SUBJECTS",
        "odd = brought:PLUGIN_THAT_IS_NOT",
    ]
    (info / "entry_points.txt").write_text("[frostproof.subjects]\n" + "\n".join(points) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.entry_point_subjects.cache_clear()
    try:
        found, failures = registry.entry_point_subjects()
        assert sorted(found) == ["brought:Made", "brought:Sound"]
        assert [failure.split("'")[1] for failure in failures] == ["bad", "odd"]
        assert "OSError: no such library" in failures[0]
        assert registry.registered_subjects("brought:Sound")[0].arguments == {"lr": 0.1}
    finally:
        registry.entry_point_subjects.cache_clear()


def test_a_report_in_a_notebook_escapes_what_it_shows() -> None:
    subject = frostproof.Subject("<script>:Bad", DecaysEverything)
    report = frostproof.check_optimizer(subject, max_examples=10, devices=["cpu"], seed=0)
    html = report._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "1 subject (1 violated" in html
