"""Frozen after it has trained, with warm state and no gradient: it stays, and so does what the optimizer knows of it."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change
from frostproof.observation import Moment, Trial
from frostproof.program import BackwardUnderNoGrad, Freeze, Step, ZeroGrad


def judge(trial: Trial, moment: Moment) -> Judgement:
    if not isinstance(moment.event, Step | Freeze | ZeroGrad | BackwardUnderNoGrad):
        return NOT_JUDGED  # an optimizer may legitimately swap weights when its mode changes
    case, judgement = trial.case, NOT_JUDGED
    midway = [i for i in case.frozen_midway if i in moment.frozen.step and _warm(trial, moment, i)]
    for role, seen in moment.seen.items():
        before = trial.weights_before(moment, role)
        states = moment.before[role].states if moment.before and trial.subject.per_parameter and not seen.forgot else {}
        for i in midway:
            if i in seen.owned and seen.handed is not None and seen.handed[i] is not None:
                continue  # a gradient that was left or zeroed trains it, by torch's own semantics
            if seen.weights[i] != before[i]:
                what = change(trial, i, before[i], seen.weights[i])
                return f"a parameter that was frozen midway, and has no gradient, moved {at(moment)}, approach {trial.names[role]}: {what}"
            kept = case.parameters[i].renormed or i not in states or states[i] == seen.states.get(i)  # state may alias a weight
            if seen.stepped and not kept:
                name = case.parameters[i].name
                return f"the optimizer's state of {name}, frozen midway, changed {at(moment)}, approach {trial.names[role]}"
            if seen.stepped:
                judgement = HELD
    return judgement


def _warm(trial: Trial, moment: Moment, i: int) -> bool:
    """Whether parameter `i` was trained before this moment."""
    handed = [each.seen["a"].handed for each in trial.moments[: moment.number] if i not in each.frozen.step]
    return any(gradients is not None and gradients[i] is not None for gradients in handed)


INVARIANT = Invariant(
    id="freeze-midway-holds",
    statement="frozen after k steps with warm state (flag off, grad None): bits and state stay from then on",
    severity="wrong",
    source="https://discuss.pytorch.org/t/153740",
    judge=judge,
)
