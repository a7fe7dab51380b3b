"""Freezing everything stops training loudly: with nothing to differentiate, torch raises."""

from frostproof.invariants.assertions import moved
from frostproof.invariants.invariant import (
    HELD,
    Assertion,
    Invariant,
    Judgements,
    Kind,
    ShownBreach,
)
from frostproof.spec.program import BackwardUnderNoGrad, Step
from frostproof.training.observation import EventRecord, Trial
from frostproof.training.source import block

TEXT = "element 0 of tensors does not require grad and does not have a grad_fn"


class _Silent(Kind):
    def assertion(self, shown: ShownBreach) -> Assertion:
        other = shown.exits_if(f'"{TEXT}" not in str(error)', "backward raised {{error!r:.200}}")
        tried = [
            block("try:", "loss.backward()"),
            block("except RuntimeError as error:", other),
            block("else:", shown.leave(self.text.format(found="did not raise"))),
        ]
        return Assertion({(shown.breach.event, "backward"): [*tried]})


def _kinds(why: str) -> tuple[Kind, Kind, Kind]:
    """The kinds of breach after a forward pass that has nothing to differentiate."""
    silent = _Silent("did-not-raise", f"backward of a forward pass {why} {{found}}")
    allocated = f"a gradient of {{name}} was allocated {why}"
    return (
        silent,
        Kind("allocated", allocated, "{grad} is not None"),
        moved(f"a weight moved {why}"),
    )


NO_GRAD, ALL_FROZEN = _kinds("under no_grad"), _kinds("with every leaf frozen")


def judge(trial: Trial, record: EventRecord) -> Judgements:
    silent, allocated, moved = NO_GRAD
    roles = [*record.observations]
    if isinstance(record.event, Step) and not _has_graph(trial, record):
        silent, allocated, moved = ALL_FROZEN
        roles = ["a"]
    elif not isinstance(record.event, BackwardUnderNoGrad):
        return
    for role in roles:
        observed = record.observations[role]
        if observed.closure is not None and observed.closure.calls == 0:
            continue  # nobody called backward; `closure-is-honoured` says so
        error, before = observed.backward_error, observed.weights_before
        if error is None or TEXT not in error:
            found = "did not raise" if error is None else f"raised {error!r}, and not {TEXT!r},"
            yield silent.breach(record, role, found=found)
        grads = observed.grads_at_step or observed.grads_after_zero_grad or ()
        for i, grad in enumerate(grads):
            if observed.has_gradient[i] and grad is None:
                yield allocated.breach(record, role, i)
        for i, weight in enumerate(observed.weights):
            had_gradient = i in observed.owned and grads and grads[i] is not None
            if weight != before[i] and not had_gradient:  # by a leftover gradient, it may move
                yield moved.breach(record, role, i, before[i], weight)
        yield HELD


def _has_graph(trial: Trial, record: EventRecord) -> bool:
    """Whether a trainable leaf, or samples that require grad, are upstream of A's loss."""
    case = trial.case
    return case.architecture.graph(record.mask.in_forward, case.differentiable_input)[-1]


INVARIANT = Invariant(
    "no-grad-backward-raises",
    "after a forward pass under no_grad, or with every leaf frozen, backward raises torch's "
    "RuntimeError, no gradient is allocated, and no weight moves",
    judge,
    "https://discuss.pytorch.org/t/58156",
    needs_optimizer=False,
    mend="move nothing, and allocate no gradient, where no parameter has one",
)
