"""Cases are data: JSON and repr give back an equal case; anything else gets one clear line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostproof.errors import CaseError
from frostproof.generation.cases import cases
from frostproof.optimizers.targets import resolve
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import Conv2d, Embedding, Flatten, GroupNorm, Linear, Sequential, Tanh
from frostproof.spec.program import Step
from frostproof.spec.subject import Subject

ADAM = resolve(["torch.optim:Adam"])[0]
SMALL = Case(
    Architecture(Input((2,)), (Linear(3), Tanh(), Sequential((Linear(1, bias=False),)))),
    mask=("0.weight",),
    groups=(Group(("0.weight", "0.bias", "2.0.weight"), (("lr", 0.1), ("betas", (0.9, 0.99)))),),
    program=(Step(),),
)


@given(cases(ADAM))
def test_json_gives_back_an_equal_case(case: Case) -> None:
    assert Case.from_json(case.to_json()) == case


@given(cases(ADAM))
def test_repr_is_python_that_builds_an_equal_case(case: Case) -> None:
    from frostproof.spec import architecture, layers, program
    from frostproof.spec import case as module

    names = {**vars(architecture), **vars(layers), **vars(program), **vars(module)}
    assert eval(repr(case), names) == case


def test_a_case_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        SMALL.seed = 1  # type: ignore[misc]
    assert hash(SMALL) == hash(Case.from_json(SMALL.to_json()))


def test_parameters_have_the_names_and_shapes_that_torch_gives_them() -> None:
    assert [(p.name, p.shape) for p in SMALL.parameters] == [
        ("0.weight", (3, 2)),
        ("0.bias", (3,)),
        ("2.0.weight", (1, 3)),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a case"),
        ("{", "not a case"),
        ("[]", "not a case"),
        ("[" * 100_000, "not a case"),
        (SMALL.to_json()[:80], "not a case"),
        (SMALL.to_json().replace('"seed":0', '"seed":"0"'), "$.seed"),
        (SMALL.to_json().replace('"seed":0', '"sead":0'), "sead"),
        (SMALL.to_json().replace('"Tanh"', '"Tahn"'), "Tahn"),
        (SMALL.to_json().replace('["0.weight"]', '["7.weight"]', 1), "the mask names '7.weight'"),
        (
            SMALL.to_json().replace('"out_features":3', '"out_features":999999999999'),
            "out_features",
        ),
        (SMALL.to_json().replace('"out_features":3', '"out_features":-3'), "out_features"),
    ],
)
def test_what_is_no_case_gets_one_line(text: str, says: str) -> None:
    with pytest.raises(CaseError) as error:
        Case.from_json(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        (Architecture(Input((2,)), (Tanh(),)), "no parameter"),
        (Architecture(Input((2,)), ()), "no parameter"),
        (Architecture(Input((2,)), (Conv2d(1),)), "3 dimensions"),
        (Architecture(Input((2, 3, 3)), (Conv2d(3), GroupNorm(2))), "divisor of 3"),
        (Architecture(Input((2, 3, 3)), (Conv2d(3, 2),)), "odd kernel_size"),
        (Architecture(Input((2,)), (Embedding(3, 2), Flatten())), "vocabulary"),
    ],
)
def test_layers_that_do_not_fit_get_one_line(architecture: Architecture, says: str) -> None:
    with pytest.raises(CaseError, match=says):
        architecture.check()


@given(st.data())
def test_the_smallest_example_is_small(data: st.DataObject) -> None:
    case = data.draw(cases(Subject(target="torch.autograd", factory=None)))
    case.check()
