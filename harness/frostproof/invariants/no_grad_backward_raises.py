"""Freezing everything stops training loudly: there is nothing to differentiate, and torch raises."""

from frostproof.invariants.assertions import check, exits_if, leave, stays
from frostproof.invariants.breach import HELD, Assertion, Judgements, Kind, ShownBreach
from frostproof.invariants.invariant import Invariant
from frostproof.spec.program import BackwardUnderNoGrad, Step
from frostproof.training.observation import EventRecord, Trial
from frostproof.training.source import block

TEXT = "element 0 of tensors does not require grad and does not have a grad_fn"


class _Kinds:
    """The kinds of breach after one sort of forward pass: `why` it has nothing to differentiate."""

    def __init__(self, why: str) -> None:
        expected = (
            f"a forward pass {why} has nothing to differentiate: backward raises, and nothing moves"
        )

        def must_raise(shown: ShownBreach) -> Assertion:
            other = f'"{TEXT}" not in str(error)'
            other_error = exits_if(shown, other, "backward raised {{error!r:.200}}")
            silent = leave(shown, f"backward of a forward pass {why} did not raise")
            statements = [
                block("try:", "loss.backward()"),
                block("except RuntimeError as error:", other_error),
                block("else:", silent),
            ]
            return Assertion({(shown.breach.event, "backward"): [*statements]})

        self.silent = Kind(
            "did-not-raise",
            f"backward of a forward pass {why} {{found}} {{where}}",
            expected,
            must_raise,
        )
        allocated = f"a gradient of {{name}} was allocated {why}"
        self.allocated = Kind(
            "allocated",
            allocated + " {where}",
            expected,
            check("{tensor}.grad is not None", allocated),
        )
        self.moved = Kind(
            "moved",
            f"a weight moved {why} {{where}}: {{change}}",
            expected,
            stays(f"step() after a forward pass {why} moved"),
        )


NO_GRAD, ALL_FROZEN = _Kinds("under no_grad"), _Kinds("with every leaf frozen")


def judge(trial: Trial, record: EventRecord) -> Judgements:
    if isinstance(record.event, BackwardUnderNoGrad):
        kinds, roles = NO_GRAD, list(record.observations)
    elif isinstance(record.event, Step) and not _has_graph(trial, record):
        kinds, roles = ALL_FROZEN, ["a"]
    else:
        return
    for role in roles:
        observed = record.observations[role]
        error, before = observed.backward_error, observed.weights_before
        if error is None or TEXT not in error:
            found = "did not raise" if error is None else f"raised {error!r}, and not {TEXT!r},"
            yield kinds.silent.breach(record, role, found=found)
        grads = observed.grads_at_step or observed.grads_after_zero_grad or ()
        for i, grad in enumerate(grads):
            if observed.has_gradient[i] and grad is None:
                yield kinds.allocated.breach(record, role, i)
        for i, weight in enumerate(observed.weights):
            had_gradient = i in observed.owned and grads and grads[i] is not None
            if weight != before[i] and not had_gradient:  # by a leftover gradient, it may move
                yield kinds.moved.breach(record, role, i, before[i], weight)
        yield HELD


def _has_graph(trial: Trial, record: EventRecord) -> bool:
    """Whether a trainable leaf, or samples that require grad, are upstream of A's loss."""
    case = trial.case
    return case.architecture.graph(record.mask.forward, case.differentiable_input)[-1]


INVARIANT = Invariant(
    "no-grad-backward-raises",
    "forward under no_grad, or with every leaf frozen: backward raises RuntimeError with torch's "
    "text; no grad is allocated, no weight moves",
    judge,
    "https://discuss.pytorch.org/t/58156",
    needs_values=False,
    needs_optimizer=False,
)
