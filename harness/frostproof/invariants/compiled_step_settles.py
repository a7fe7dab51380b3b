"""A compiled step settles: of equal steps in a row, only the first ones compile."""

from frostproof.invariants.invariant import (
    HELD,
    Assertion,
    Invariant,
    Judgements,
    Kind,
    ShownBreach,
)
from frostproof.spec.case import Role
from frostproof.spec.program import Step
from frostproof.spec.setting import MORE_THAN_THE_LIMIT as STEPS
from frostproof.training.observation import EventRecord, Observation, Trial

COMPILED = 'torch._dynamo.utils.counters["frames"]["total"]'

LAST = "torch._dynamo.utils.get_compilation_metrics()[-1]"


class _Anew(Kind):
    def assertion(self, shown: ShownBreach) -> Assertion:
        found, last = super().assertion(shown), shown.breach.event
        for number in range(last - STEPS + 1, last + 1):
            found.notes[number, "step"] = [f"compiled.append(-{COMPILED})"]
            found.notes[number, "end"] = [f"compiled[-1] += {COMPILED}"]
        return found


ANEW = _Anew(
    "compiled-anew",
    f"each of {STEPS} equal steps in a row compiles step() anew",
    "all(compiled)",
    where=", the last {where}; its script prints which value has changed",
    shows=": {{compiled}} functions; the guard that failed last: {{why.partition('  # ')[0]}}",
    setup="compiled = []",
    after=(f"why = {LAST}.recompile_reason or 'none, the function is new'",),
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    records = trial.records[-STEPS:]
    if len(records) < STEPS or not isinstance(record.event, Step) or record.event.closure:
        return
    if any((each.event, each.mask) != (record.event, record.mask) for each in records):
        return
    roles: tuple[Role, ...] = ("a", "b")
    for role in roles:
        observed = [each.observations[role] for each in records]
        if len(set(map(_present, observed))) == 1 and observed[-1].optimizer_called:
            if all(each.functions_compiled for each in observed):
                yield ANEW.breach(record, role)
            yield HELD


def _present(observed: Observation) -> tuple[bool, ...]:
    """Which parameters had a gradient at the call of step()."""
    return tuple(gradient is not None for gradient in observed.grads_at_step or ())


INVARIANT = Invariant(
    "compiled-step-settles",
    f"torch.compile compiles nothing in at least one of {STEPS} equal steps in a row",
    judge,
    "https://docs.pytorch.org/docs/stable/user_guide/torch_compiler/"
    "compile/programming_model.recompilation.html",
    severity="cost",
    violation_class="cost",
    applies_in=lambda setting: setting.compiles and bool(setting.step),
    freezing=False,
    mend="keep what changes in each step in a tensor, and not in a Python number",
)
