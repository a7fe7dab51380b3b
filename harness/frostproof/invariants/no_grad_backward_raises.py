"""Freezing everything stops training loudly: there is nothing to differentiate, and torch says so."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Assertion, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.spec.program import BackwardUnderNoGrad, Step
from frostproof.training.observation import Moment, Trial
from frostproof.training.source import block

TEXT = "element 0 of tensors does not require grad and does not have a grad_fn"


def judge(trial: Trial, moment: Moment) -> Judgement:
    if isinstance(moment.event, BackwardUnderNoGrad):
        roles = list(moment.seen)
    elif isinstance(moment.event, Step) and not _reaches_something(trial, moment):
        roles = ["a"]
    else:
        return NOT_JUDGED
    for role in roles:
        seen, before = moment.seen[role], trial.weights_before(moment, role)
        if seen.backward_error is None or TEXT not in seen.backward_error:
            return Breach(DID_NOT_RAISE, (role,), moment.number, found=seen.backward_error)
        had = seen.cleared if seen.handed is None else seen.handed
        for i, (gradient, has) in enumerate(zip(had or (), seen.has_gradient, strict=False)):
            if has and gradient is None:
                return Breach(ALLOCATED, (role,), moment.number, (i,))
        for i, weight in enumerate(seen.weights):
            if weight != before[i] and not (
                i in seen.owned and had and had[i] is not None
            ):  # by a gradient from before, it may move
                return Breach(MOVED, (role,), moment.number, (i,), before[i], weight)
    return HELD


def _reaches_something(trial: Trial, moment: Moment) -> bool:
    """Whether A's loss has a graph: a trainable leaf, or samples that require grad, upstream of it."""
    return trial.case.architecture.graph(moment.mask.in_forward, trial.case.differentiable_input)[
        -1
    ]


def _why(shown: Shown) -> str:
    return "with every leaf frozen" if isinstance(shown.moment.event, Step) else "under no_grad"


def _expected(shown: Shown) -> str:
    return f"a forward pass {_why(shown)} has nothing to differentiate: backward raises, and nothing moves"


def _not_raised(shown: Shown) -> str:
    found = shown.breach.found
    did = "did not raise" if found is None else f"raised {found!r}, and not {TEXT!r},"
    return f"backward of a forward pass {_why(shown)} {did} {shown.where}"


def _must_raise(shown: Shown) -> Assertion:
    other = shown.exits_if(f'"{TEXT}" not in str(error)', "backward raised {error!r:.200}")
    return shown.noted(
        _expected(shown),
        "backward",
        block("try:", "loss.backward()"),
        block("except RuntimeError as error:", other),
        block("else:", shown.leave(f"backward of a forward pass {_why(shown)} did not raise")),
    )


def _not_allocated(shown: Shown) -> Assertion:
    text = f"a gradient of {shown.name} was allocated {_why(shown)}"
    return Assertion(
        _expected(shown), verdict=[shown.exits_if(f"{shown.tensor}.grad is not None", text)]
    )


DID_NOT_RAISE = Kind("did-not-raise", _not_raised, _must_raise)
ALLOCATED = Kind(
    "allocated",
    lambda shown: f"a gradient of {shown.name} was allocated {_why(shown)} {shown.where}",
    _not_allocated,
)
MOVED = Kind(
    "moved",
    lambda shown: f"a weight moved {_why(shown)} {shown.where}: {shown.change}",
    lambda shown: shown.keeps(_expected(shown), f"step() after a forward pass {_why(shown)} moved"),
)

INVARIANT = Invariant(
    id="no-grad-backward-raises",
    statement=(
        "forward under no_grad, or with every leaf frozen: backward raises RuntimeError with torch's text; "
        "no grad is allocated, no weight moves"
    ),
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=judge,
    needs_values=False,
    needs_optimizer=False,
)
