"""A compiled step trains as the same step does without torch.compile, up to rounding."""

from frostproof.invariants.invariant import HELD, Invariant, Judgements, Kind, ShownBreach
from frostproof.invariants.pairs import comparable
from frostproof.invariants.tolerance import WHEN_COMPILED, rounding
from frostproof.spec.case import Role
from frostproof.spec.program import Step
from frostproof.training.observation import EventRecord, Trial
from frostproof.training.source import Statement

ROLES: tuple[Role, Role] = ("a", "eager")


class _Unlike(Kind):
    def test(self, shown: ShownBreach) -> Statement:
        limit = f"{WHEN_COMPILED[shown.case.dtype]} * largest"
        close = f"torch.allclose(compiled, eager, rtol=0.0, atol={limit}, equal_nan=True)"
        return shown.exits_if(f"not {close}", self.text + self.shows)


UNLIKE = _Unlike(
    "compiled-unlike",
    "the compiled step trains unlike the step without torch.compile {at} ({left} -> {right}): ",
    where="{change}",
    shows="{name}[{{i}}]: {{compiled.flatten()[i]:.9g}} -> {{eager.flatten()[i]:.9g}}",
    returns="{values}.detach().double()",
    after=(
        "largest = compiled.nan_to_num(0.0, 0.0, 0.0).abs().max().clip(min=1.0).item()",
        "i = (eager - compiled).abs().argmax()",
    ),
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    observed = record.observations["a"]
    if not isinstance(record.event, Step) or not observed.optimizer_called:
        return
    if not comparable(trial, record, ROLES):
        return
    pairs = zip(observed.weights, record.observations["eager"].weights, strict=True)
    for i, (compiled, eager) in enumerate(pairs):
        difference = rounding(compiled, eager, trial.case.dtype, WHEN_COMPILED)
        if difference is None:
            yield UNLIKE.breach(record, ROLES, i, compiled, eager)
        else:
            trial.rounding = max(trial.rounding, difference)
    yield HELD


INVARIANT = Invariant(
    "compiled-step-agrees",
    "a compiled step trains every parameter as the same step does without torch.compile, up to "
    "rounding",
    judge,
    "https://docs.pytorch.org/tutorials/recipes/compiling_optimizer.html",
    applies_in=lambda setting: setting.compiles and bool(setting.step),
    compares=True,
    freezing=False,
    violation_class="compiled",
    mend="compute the same update in the branch for torch.compile as in the other",
)
