"""Where two approaches legitimately train apart, and how that is known.

Two twins must agree bit for bit as long as their optimizers are handed the same. Here are the ways in which they may be
handed something else. Each is told by its cause, which has to be seen: what differs without one is a violation.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isnan

from frostproof.invariants.tolerance import is_rounding
from frostproof.spec.program import Step, Thaw
from frostproof.training.observation import Bits, Moment, Observation, Trial, picker

PAIRS = (
    ("a", "b"),
    ("b", "cleared"),
    ("b", "second"),
    ("b", "rebuilt"),
    ("a", "resumed"),
    ("b", "resumed-b"),
)
"""The roles that are compared step by step."""


def part(trial: Trial, moment: Moment) -> None:
    """Note in `trial.parted` which pairs of twins train apart from this moment on, and why."""
    for left, right in PAIRS:
        if right in moment.seen and (left, right) not in trial.parted:
            for name, cause in CAUSES.items():
                if cause(trial, moment, left, right):
                    trial.parted[left, right] = name
                    break


def _kept_gradient(trial: Trial, moment: Moment, left: str, right: str) -> bool:
    """An optimizer is handed a gradient for what is frozen: it trains it, as torch's optimizers look at gradients alone."""
    for role in (left, right):
        seen = moment.seen[role]
        if (
            seen.handed is not None
            and seen.stepped
            and any(seen.handed[i] is not None for i in moment.mask.at_step if i in seen.owned)
        ):
            return True
    return False


def _thawed_within(trial: Trial, moment: Moment, left: str, right: str) -> bool:
    """Thawed after its forward pass: A has no gradient for it at this step, B the sum of those that it left behind."""
    event = moment.event
    if not isinstance(event, Step):
        return False
    names = {name for each in event.mask_changes if isinstance(each, Thaw) for name in each.names}
    one, other = moment.seen[left], moment.seen[right]
    positions = [trial.case.positions[name] for name in names]
    without = (left != "a") or all(
        _handed(one, i) is None for i in positions if _stale(trial, moment, i)
    )
    return without and any(
        _handed(one, i) != _handed(other, i) and _stale(trial, moment, i) for i in positions
    )


def _stale(trial: Trial, moment: Moment, i: int) -> bool:
    return i in moment.mask.in_forward or i in moment.mask.in_backward


def _clipped_by_leftovers(trial: Trial, moment: Moment, left: str, right: str) -> bool:
    """Clipped by the norm over the whole model: the trainable gradients have one norm in both, and B's leftovers add to it."""
    event = moment.event
    if not isinstance(event, Step) or not any(clip.over == "all" for clip in event.clips):
        return False
    one, other = moment.seen[left], moment.seen[right]
    take = picker(moment.mask.trainable)
    if (
        one.handed is None
        or other.handed is None
        or (not event.closure and take(one.handed) == take(other.handed))
    ):
        return False
    for first, second in zip(one.clipped, other.clipped, strict=False):
        if first.norm != second.norm:  # those before clipped both alike
            alike = first.trainable == second.trainable or is_rounding(
                trial, first.trainable, second.trainable
            )
            return alike and (first.norm, second.norm) != (first.trainable, second.trainable)
    return False


def _cut_off(trial: Trial, moment: Moment, left: str, right: str) -> bool:
    """A reentrant checkpoint, none of whose inputs requires grad, is cut off: backward leaves its gradients alone in A, not in B."""
    case = trial.case
    if not isinstance(moment.event, Step) or left != "a" or not case.architecture.cuts:
        return False
    reached = case.architecture.reached(moment.mask.in_forward, case.differentiable_input)
    everything = case.architecture.reached((), case.differentiable_input)
    one, other = moment.seen[left], moment.seen[right]
    cut = [i for i in moment.mask.trainable if i in everything - reached]
    if trial.subject.backward == "fused":
        return bool(
            cut
        )  # nobody sees the gradients: what is known is that these are behind the cut
    return any(_left_alone(one, i) and not _left_alone(other, i) for i in cut)


def _left_alone(seen: Observation, i: int) -> bool:
    """Whether backward has given this parameter nothing: no gradient, or the zeros that zero_grad(set_to_none=False) left it."""
    gradient = None if seen.gradients is None else seen.gradients[i]
    return gradient is None or (seen.cleared is not None and gradient == seen.cleared[i])


def _rates_differ(trial: Trial, moment: Moment, left: str, right: str) -> bool:
    """A scheduler knows nothing of a group, or an optimizer, that came after it: the learning rates are no longer the same."""
    one, other = moment.seen[left].rates, moment.seen[right].rates
    take = picker(moment.mask.trainable)
    return _came_late(trial, left, right) and bool(one and other) and take(one) != take(other)


def _counts_differ(trial: Trial, moment: Moment, left: str, right: str) -> bool:
    """An optimizer keeps count in its groups, or in itself, of the steps that it took: what came late has another count."""
    one, other = moment.seen[left].counts, moment.seen[right].counts
    take = picker(moment.mask.trainable)
    return _came_late(trial, left, right) and bool(one and other) and take(one) != take(other)


def _came_late(trial: Trial, left: str, right: str) -> bool:
    """Whether a group, or the optimizer itself, came during the training, or was not there at a step because it owned nothing."""
    pairs = [(each.seen[left], each.seen[right]) for each in trial.moments]
    return any(seen.added or seen.built for pair in pairs for seen in pair) or any(
        one.stepped != other.stepped for one, other in pairs
    )


def _forgot(trial: Trial, moment: Moment, left: str, right: str) -> bool:
    """An optimizer was built anew, and has lost state or settings that the other one kept."""
    return moment.seen[left].forgot != moment.seen[right].forgot


def _nothing_to_step(trial: Trial, moment: Moment, left: str, right: str) -> bool:
    """An optimizer evaluates its closure more than once; with everything frozen, B has none to do so, and one forward pass."""
    one, other = moment.seen[left], moment.seen[right]
    through_closure = isinstance(moment.event, Step) and moment.event.closure
    return through_closure and one.stepped != other.stepped and len(one.losses) != len(other.losses)


def _cast_on_load(trial: Trial, moment: Moment, left: str, right: str) -> bool:
    """load_state_dict casts floating point state, all but `step`, to the dtype of its parameter, and so loses digits."""
    return moment.seen[right].cast and not moment.seen[left].cast


def _zeroed_in_place(trial: Trial, moment: Moment, left: str, right: str) -> bool:
    """Thawed with a leftover gradient in one, which zero_grad(set_to_none=False) left as zeros: 0 + -0.0 is not -0.0."""
    one, other = moment.seen[left], moment.seen[right]
    if (
        one.cleared is None
        or other.cleared is None
        or one.gradients is None
        or other.gradients is None
    ):
        return False
    zeroed = [
        i for i in moment.mask.trainable if (one.cleared[i] is None) != (other.cleared[i] is None)
    ]
    # Before any is dropped: the gradients differ even where step() sees none of them.
    pairs = [(one.gradients[i], other.gradients[i]) for i in zeroed]
    return any(
        left != right and _numbers(trial, left) == _numbers(trial, right) for left, right in pairs
    )


def _numbers(trial: Trial, gradient: Bits | None) -> list[float | str] | None:
    """The values of a gradient, in which 0.0 and -0.0 are equal, and so are NaNs; None where none is more than zero."""
    from frostproof.training.bits import values

    numbers = (
        []
        if gradient is None
        else ["NaN" if isnan(number) else number for number in values(gradient, trial.case.dtype)]
    )
    return numbers if any(numbers) else None


def _handed(seen: Observation, i: int) -> bytes | None:
    return None if seen.handed is None else seen.handed[i]


CAUSES: dict[str, Callable[[Trial, Moment, str, str], bool]] = {
    "a frozen parameter still has a gradient": _kept_gradient,
    "thawed between forward and step": _thawed_within,
    "clipped over the whole model, leftover gradients included": _clipped_by_leftovers,
    "a reentrant checkpoint without an input that requires grad": _cut_off,
    "a scheduler that does not follow what came after it": _rates_differ,
    "a group, or an optimizer, counts steps since it came": _counts_differ,
    "an optimizer built anew has forgotten": _forgot,
    "loading casts the optimizer's state to the dtype of the parameters": _cast_on_load,
    "thawed with a leftover gradient, which was zeroed in place": _zeroed_in_place,
    "with everything frozen, B has no optimizer to evaluate a closure again": _nothing_to_step,
}
"""Cause -> whether it is seen at this moment. Reports count them by these names."""
