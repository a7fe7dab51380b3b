"""Frozen after it has trained, with warm state and no gradient: it stays, and so does what the optimizer knows of it."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Assertion, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.pairs import state_of
from frostproof.spec.program import BackwardUnderNoGrad, Freeze, Step, ZeroGrad
from frostproof.training.observation import Moment, Trial

EXPECTED = "frozen midway, with no gradient: its weights, and what the optimizer knows of it, stay"


def judge(trial: Trial, moment: Moment) -> Judgement:
    if not isinstance(moment.event, Step | Freeze | ZeroGrad | BackwardUnderNoGrad):
        return NOT_JUDGED  # an optimizer may legitimately swap weights when its mode changes
    case = trial.case
    judgement: Judgement = NOT_JUDGED
    midway = [i for i in case.frozen_midway if i in moment.mask.at_step and _warm(trial, moment, i)]
    for role, seen in moment.seen.items():
        before = trial.weights_before(moment, role)
        states = (
            moment.before[role].states
            if moment.before and trial.subject.per_parameter and not seen.forgot
            else {}
        )
        for i in midway:
            if i in seen.owned and seen.handed is not None and seen.handed[i] is not None:
                continue  # a gradient that was left or zeroed trains it, by torch's own semantics
            if seen.weights[i] != before[i]:
                return Breach(MOVED, (role,), moment.number, (i,), before[i], seen.weights[i])
            kept = (
                case.parameters[i].renormed or i not in states or states[i] == seen.states.get(i)
            )  # state may alias a weight
            if seen.stepped and not kept:
                return Breach(STATE, (role,), moment.number, (i,))
            if seen.stepped:
                judgement = HELD
    return judgement


def _warm(trial: Trial, moment: Moment, i: int) -> bool:
    """Whether parameter `i` was trained before this moment."""
    handed = [
        each.seen["a"].handed
        for each in trial.moments[: moment.number]
        if i not in each.mask.at_step
    ]
    return any(gradients is not None and gradients[i] is not None for gradients in handed)


def _state_kept(shown: Shown) -> Assertion:
    found = shown.noted(EXPECTED, "before", f"known = {state_of(shown)}")
    test = shown.exits_if(
        "known != after",
        f"the state of {shown.name}, frozen midway, changed: {{known}} -> {{after}}",
    )
    found.verdict = [f"after = {state_of(shown)}", test]
    return found


MOVED = Kind(
    "moved",
    lambda shown: (
        f"a parameter that was frozen midway, and has no gradient, moved {shown.where}: {shown.change}"
    ),
    lambda shown: shown.keeps(EXPECTED, "moved, though it was frozen midway and has no gradient,"),
)
STATE = Kind(
    "state",
    lambda shown: f"the optimizer's state of {shown.name}, frozen midway, changed {shown.where}",
    _state_kept,
)

INVARIANT = Invariant(
    id="freeze-midway-holds",
    statement="frozen after k steps with warm state (flag off, grad None): bits and state stay from then on",
    severity="wrong",
    source="https://discuss.pytorch.org/t/153740",
    judge=judge,
)
