"""Messages of breaches: what they name, and what they leave out."""

from __future__ import annotations

import struct
from typing import Any

from frostproof.approaches.approach import Approaches
from frostproof.counterexamples.script import script
from frostproof.invariants.messages import event_text, numbers
from frostproof.optimizers.discovery import subjects
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import BatchNorm1d, Linear
from frostproof.spec.program import Clip, Eval, Freeze, Step
from frostproof.verification.verification import Verification
from tests.helpers.planted import TrainsFrozenBatchNorm
from tests.helpers.protocols import Plain
from tests.trial.test_programs import FIRST, case_of


def test_of_many_names_an_event_shows_three() -> None:
    few, many = tuple("abcd"), tuple("abcdefg")
    assert event_text(Freeze(few)) == repr(Freeze(few))
    step = Step(after_backward=(Clip(), Freeze(many)))
    said = "Step(after_backward=(Clip(), Freeze(names=('a', 'b', 'c', '4 more'))))"
    assert event_text(step) == said


def test_numbers_that_differ_are_shown_as_unlike() -> None:
    one, other = (struct.pack("d", each) for each in (0.1, 0.1 + 1e-16))
    assert numbers("float64", one, other) == "[0]: 0.1 -> 0.1000000000000001"
    assert numbers("float64", one, struct.pack("d", 0.2)) == "[0]: 0.1 -> 0.2"


def test_a_buffer_that_changed_is_named() -> None:
    architecture = Architecture(Input((2,)), (BatchNorm1d(), Linear(2)))
    case = Case(
        architecture,
        ("0.weight", "0.bias"),
        (Group(tuple(p.name for p in architecture.parameters), (("lr", 0.1),)),),
        (Eval(only_frozen=True), Step()),
        batch=2,
    )
    approaches = Approaches(a=TrainsFrozenBatchNorm())
    verification = Verification(subjects(Plain)[0], "cpu", approaches=approaches)
    with fenced("cpu"):
        verification.prepare()
        found = {each.id: text for each, text in verification.find_violations(case).items()}
    assert found["buffers-hold-in-eval"].startswith(
        "0.running_mean, a buffer of a frozen module in eval mode, changed at event 1 (Step())"
    )


class ReturnsFacts(Plain):
    """Its step returns what is no loss, with text that means something in an f-string."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        return loss, {"said": 'a "word"'}


def test_whatever_a_step_returned_is_shown_by_a_script_that_compiles() -> None:
    verification = Verification(subjects(ReturnsFacts)[0], "cpu")
    case = case_of(Step(closure=True), mask=FIRST)
    with fenced("cpu"):
        verification.prepare()
        verification.find_violations(case)
    shown = verification.tallies["closure-is-honoured"].shown
    assert shown is not None
    assert "which is none of the losses" in shown.message
    compile(script(shown, verification.subject), "script", "exec")
