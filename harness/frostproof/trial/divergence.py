"""Causes for which two roles legitimately train differently.

Two roles must agree bit for bit as long as their optimizers receive the same gradients, parameters
and settings. They may differ only if one of the causes here was observed in the trial. Any other
difference is a violation.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isnan

from frostproof.invariants.tolerance import rounding
from frostproof.spec.case import Role
from frostproof.spec.program import Step, Thaw
from frostproof.training.observation import Bits, EventRecord, Observation, Trial, picker

PAIRS: tuple[tuple[Role, Role], ...] = (
    ("a", "b"),
    ("b", "cleared"),
    ("b", "second"),
    ("b", "rebuilt"),
    ("a", "way"),
    ("a", "alone"),
    ("a", "eager"),
    ("a", "resumed"),
    ("b", "resumed-b"),
)
"""The roles that are compared step by step."""

KNOWN_VIOLATION = "known-violation"
"""The cause where a breach that was found before has told the two roles apart."""


def note_divergence(trial: Trial, record: EventRecord) -> None:
    """Note in `trial.diverged` the pairs of roles that diverge from now on, with the cause."""
    for left, right in PAIRS:
        if right in record.observations and (left, right) not in trial.diverged:
            for identity, is_observed in CAUSES.items():
                if is_observed(trial, record, left, right):
                    trial.diverged[left, right] = identity
                    break


def _frozen_has_gradient(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """An optimizer receives a gradient of a frozen parameter, and so trains it.

    torch's optimizers look at gradients alone.
    """
    return any(
        observed.optimizer_called and observed.gradient_at_step(i) is not None
        for observed in (record.observations[left], record.observations[right])
        for i in record.mask.at_step
        if i in observed.owned
    )


def _thawed_within_step(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """Thawed after its forward pass: A has no gradient at this step, B the sum of leftovers."""
    if not isinstance(record.event, Step):
        return False
    thaws = (each for each in record.event.mask_changes if isinstance(each, Thaw))
    frozen = {*record.mask.in_forward, *record.mask.in_backward}
    names = {name for each in thaws for name in each.names}
    one, other = record.observations[left], record.observations[right]
    thawed = [i for i in map(trial.case.positions.__getitem__, names) if i in frozen]
    expected = left != "a" or all(one.gradient_at_step(i) is None for i in thawed)
    return expected and any(one.gradient_at_step(i) != other.gradient_at_step(i) for i in thawed)


def _clipped_with_leftovers(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """Clipped by the norm over the whole model, to which B's leftover gradients add.

    Correct optimizers would differ here, even if the gradients of trainable parameters differ too.
    """
    event = record.event
    if not isinstance(event, Step) or not any(clip.over == "all" for clip in event.clips):
        return False
    one, other = record.observations[left], record.observations[right]
    if one.grads_at_step is None or other.grads_at_step is None:
        return False
    take = picker(record.mask.trainable)
    if not event.closure and take(one.grads_at_step) == take(other.grads_at_step):
        return False
    norms = zip(one.clipped_norms, other.clipped_norms, strict=False)
    return any(x.all != y.all and x.frozen != y.frozen for x, y in norms)


def _checkpoint_cut_off(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """A reentrant checkpoint without an input that requires grad is cut off from backward.

    Freezing by requires_grad makes it so in A: its parameters get no gradient there, but do in B.
    """
    case = trial.case
    if not isinstance(record.event, Step) or left != "a" or not case.architecture.cuts:
        return False
    reached = case.architecture.reached(record.mask.in_forward, case.differentiable_input)
    everything = case.architecture.reached((), case.differentiable_input)
    one, other = record.observations[left], record.observations[right]
    cut = [i for i in record.mask.trainable if i in everything - reached]
    if trial.subject.runs_backward or trial.subject.hooks:
        return bool(cut)  # nobody sees the gradients; they are known to be behind the cut
    return any(_not_reached(one, i) and not _not_reached(other, i) for i in cut)


def _not_reached(observed: Observation, i: int) -> bool:
    """Whether backward gave this parameter nothing.

    It has no gradient, or the zeros that zero_grad(set_to_none=False) left.
    """
    if observed.grads_after_backward is None or observed.grads_after_backward[i] is None:
        return True
    cleared = observed.grads_after_zero_grad
    return cleared is not None and observed.grads_after_backward[i] == cleared[i]


def _rates_differ(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """A scheduler does not know a group, or an optimizer, that came after it."""
    one, other = (record.observations[role].learning_rates for role in (left, right))
    return _settings_differ(trial, record, left, right, one, other)


def _group_numbers_differ(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """An optimizer counts steps, in its groups or in itself: what came late has another count.

    A training that resumes has the groups of the one that goes on: it must load their counts.
    """
    if right.startswith("resumed"):
        return False
    one, other = (record.observations[role].group_numbers for role in (left, right))
    return _settings_differ(trial, record, left, right, one, other)


def _settings_differ(
    trial: Trial,
    record: EventRecord,
    left: Role,
    right: Role,
    one: tuple[object, ...],
    other: tuple[object, ...],
) -> bool:
    """Whether trainable parameters have other settings because an optimizer or a group came late.

    It may also have missed a step because it owned nothing then. A way that gives a group settings
    of its own, or adds none, is no cause: it is what is judged.
    """
    if not (one and other) or all(
        one[i] == other[i] or None in (one[i], other[i]) for i in record.mask.trainable
    ):
        return False
    if any(each.observations[right].chosen_settings for each in trial.records):
        return False
    pairs = [(each.observations[left], each.observations[right]) for each in trial.records]
    return any(
        x.optimizer_called != y.optimizer_called
        or any(each.added_to_optimizer or each.optimizer_created for each in (x, y))
        for x, y in pairs
    )


def _state_lost(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """One optimizer was rebuilt, and lacks state or settings that the other one kept."""
    return record.observations[left].state_lost != record.observations[right].state_lost


def _draws_in_another_order(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """An optimizer draws random numbers for one parameter after the other.

    Where a group came late, the parameters have another order, and other numbers. An optimizer may
    also draw for all its parameters before it draws for them again, which those of one parameter
    each do not, and a compiled step draws in its own way.
    """
    one, other = record.observations[left], record.observations[right]
    if not (one.drew_random_numbers and other.drew_random_numbers):
        return False
    if right in ("alone", "eager"):
        return True
    if one.group_order is None or other.group_order is None:
        return False
    both = {*one.group_order} & {*other.group_order} & {*record.mask.trainable}
    orders = [[i for i in each.group_order or () if i in both] for each in (one, other)]
    return orders[0] != orders[1]


def _positional(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """Its Subject states that updates depend on the list of parameters, and two lists differ."""
    one, other = record.observations[left], record.observations[right]
    return trial.subject.positional is not None and (
        one.owned != other.owned or one.group_order != other.group_order
    )


def _no_closure_call(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """An optimizer evaluates its closure more than once.

    With everything frozen, B has no optimizer that would, and one forward pass.
    """
    one, other = record.observations[left], record.observations[right]
    through_closure = isinstance(record.event, Step) and record.event.closure
    return (
        through_closure
        and one.optimizer_called != other.optimizer_called
        and len(one.losses) != len(other.losses)
    )


def _state_cast(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """load_state_dict casts floating point state to the dtype of its parameter.

    All state but `step` loses digits by this, where the dtypes differ.
    """
    return record.observations[right].state_cast and not record.observations[left].state_cast


def _zeroed_in_place(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """Thawed with a leftover gradient in one, which zero_grad(set_to_none=False) left as zeros.

    0 + -0.0 is not -0.0.
    """
    one, other = record.observations[left], record.observations[right]
    if one.grads_after_zero_grad is None or other.grads_after_zero_grad is None:
        return False
    if one.grads_after_backward is None or other.grads_after_backward is None:
        return False
    for i in record.mask.trainable:
        cleared = one.grads_after_zero_grad[i], other.grads_after_zero_grad[i]
        # Before any is dropped: the gradients differ even where step() sees none of them.
        x, y = one.grads_after_backward[i], other.grads_after_backward[i]
        if cleared.count(None) == 1 and x != y and _numbers(trial, x) == _numbers(trial, y):
            return True
    return False


def _modes_differ(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """A user's own way has put modules into another mode, or has stopped their statistics."""
    one, other = (record.observations[role].modes for role in (left, right))
    return any(x != y for x, y in zip(one, other, strict=False))


def _settings_of_its_own(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """A user's own way has given what thaws other settings, and says that it means to."""
    observed = (each.observations[right] for each in trial.records)
    return any(each.means_settings and each.chosen_settings for each in observed)


def _compiled_model_differs(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """From the same weights a compiled model makes other gradients than the model itself."""
    if right != "eager" or not trial.subject.setting.compiles:
        return False
    one, other = record.observations[left], record.observations[right]
    alike = one.before.weights == other.before.weights
    return alike and one.grads_after_backward != other.grads_after_backward


def _kernels_round(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """The kernels of a user's model round differently where a parameter does not require grad.

    From the same weights the first pass makes gradients or a loss that differ by rounding alone,
    and no optimizer has a part in it. Drawn networks avoid such kernels.
    """
    one, other = record.observations[left], record.observations[right]
    if trial.case.architecture.knows_layers or one.before.weights != other.before.weights:
        return False
    pairs = [*zip(one.losses[:1], other.losses[:1], strict=False)]
    gradients = one.grads_after_backward, other.grads_after_backward
    if None not in gradients:
        pairs += [
            (x, y)
            for i, (x, y) in enumerate(zip(*gradients, strict=True))  # type: ignore[arg-type]
            if i in record.mask.trainable and x is not None and y is not None
        ]
    unlike = [pair for pair in pairs if pair[0] != pair[1]]
    return bool(unlike) and all(rounding(x, y, trial.case.dtype) is not None for x, y in unlike)


def _numbers(trial: Trial, gradient: Bits | None) -> list[float | str] | None:
    """The values of a gradient; None where all are zero.

    0.0 and -0.0 are equal in it, and so are NaNs.
    """
    from frostproof.training.bits import values

    numbers = () if gradient is None else values(gradient, trial.case.dtype)
    return ["NaN" if isnan(x) else x for x in numbers] if any(numbers) else None


def _ranks_rewrite(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """Whether each rank rewrites the rows that it uses; wrapping anew sends those of rank 0."""
    renormed = any(parameter.renormed for parameter in trial.case.parameters)
    return renormed and trial.subject.setting.ranks > 1


def _closure_ignored(trial: Trial, record: EventRecord, left: Role, right: Role) -> bool:
    """step() never calls its closure, and steps on what earlier passes left: in B, on leftovers."""
    uses = (record.observations[role].closure for role in (left, right))
    return any(use is not None and use.calls == 0 for use in uses)


CAUSES: dict[str, Callable[[Trial, EventRecord, Role, Role], bool]] = {
    "ranks-rewrite-embedding": _ranks_rewrite,
    "frozen-parameter-has-gradient": _frozen_has_gradient,
    "thawed-within-step": _thawed_within_step,
    "clipped-with-leftover-gradients": _clipped_with_leftovers,
    "reentrant-checkpoint-cut-off": _checkpoint_cut_off,
    "scheduler-misses-late-group": _rates_differ,
    "late-group-counts-differently": _group_numbers_differ,
    "random-numbers-in-another-order": _draws_in_another_order,
    "positional-by-design": _positional,
    "rebuilt-optimizer-lost-state": _state_lost,
    "state-cast-on-load": _state_cast,
    "leftover-gradient-zeroed-in-place": _zeroed_in_place,
    "no-optimizer-calls-closure": _no_closure_call,
    "kernels-round-by-flags": _kernels_round,
    "compiled-model-differs": _compiled_model_differs,
    "modes-differ": _modes_differ,
    "settings-of-its-own": _settings_of_its_own,
    "closure-ignored": _closure_ignored,
}
"""Cause -> whether it is observed at this event. Reports count divergences by these ids."""
