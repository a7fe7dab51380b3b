"""Made-up results of any size, with real cases, to test and time the page with."""

from __future__ import annotations

import itertools
import platform
from pathlib import Path

from frostproof.invariants.registry import INVARIANTS
from frostproof.results.rows import Environment, InvariantRow, Results, SubjectRow, totals
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.casefile import CaseFile, save
from frostproof.spec.layers import (
    Conv2d,
    Embedding,
    Flatten,
    GroupNorm,
    Linear,
    Residual,
    Sequential,
    Tanh,
    TiedLinear,
)
from frostproof.spec.program import Clip, Freeze, SaveLoad, Step, Thaw

ARCHITECTURES = (
    Architecture(Input((2,)), (Linear(3), Tanh(), Linear(4), Tanh(), Linear(2, bias=False))),
    Architecture(
        Input((2, 4, 4)),
        (
            Conv2d(4, 3),
            GroupNorm(2),
            Sequential((Tanh(), Residual((Conv2d(4, 3),)))),
            Flatten(),
            Linear(2),
        ),
    ),
    Architecture(
        Input((3,), vocabulary=5), (Embedding(5, 4), Linear(4), Tanh(), TiedLinear(5, 0), Flatten())
    ),
)
MESSAGES = (
    "approach A moved a frozen parameter at event 1 (Step()): {name}[1]: 0.5 -> 0.45, "
    "the largest of 3 differences",
    "step raised TypeError: expected Tensor as element 0 in argument 2, but got NoneType "
    "at event 3 (Step()), approach A",
)
WHERE = ((1, (0,)), (3, ()))  # the event and the parameters of each message
SCRIPT = (
    "import torch\nfrom torch import nn\n\n"
    "model = nn.Sequential(nn.Linear(2, 1))\nassert '<script>alert(1)</script>'\n"
)


def example(number: int) -> Case:
    """A case: some architecture, its first layer frozen, another frozen midway and thawed."""
    architecture = ARCHITECTURES[number % len(ARCHITECTURES)]
    names = [parameter.name for parameter in architecture.parameters]
    program = (
        Freeze((names[2],)),
        Step(),
        Thaw((names[2],)),
        Step(after_backward=(Clip(),)),
        SaveLoad(),
        Step(),
    )
    return Case(
        architecture,
        tuple(names[:2]),
        (Group(tuple(names), (("lr", 0.1), ("betas", (0.9, 0.99)))),),
        program,
        batch=2,
        seed=number,
    )


def casefile(
    row: SubjectRow,
    invariant: str,
    message: str | None,
    case: Case,
    event: int | None = None,
    parameters: tuple[int, ...] = (),
) -> CaseFile:
    """The counterexample of a row."""
    return CaseFile(
        target=row.target,
        variant=row.variant,
        device=row.device,
        invariant=invariant,
        message=message,
        case=case,
        event=event,
        parameters=parameters,
    )


def results(subjects: int, examples: int, folder: Path, names: tuple[str, ...] = ()) -> Results:
    """`subjects` rows, the first of them called `names`.

    `examples` of their judgements are violated, and have their files in `folder`.
    """
    rows = []
    left = itertools.count()
    for number in range(subjects):
        target = (
            names[number] if number < len(names) else f"library{number % 7}.optim:Optimizer{number}"
        )
        row = SubjectRow(
            target,
            ("default", "foreach")[number % 2],
            ("cpu", "cuda")[number % 5 == 0],
            "1.0",
            "held",
            None,
            400,
            0,
            1.5,
            {},
            [],
        )
        row.facts = {"moves-on-zero-grad": number % 2 == 0, "partings": {"clipping": 12}}
        for place, invariant in enumerate(each for each in INVARIANTS if each.applies_in is None):
            each = InvariantRow(invariant.id, "held", invariant.severity, 40 * place + number)
            row.invariants.append(each)
            if (
                number % 3 == 0
                and number % 25 != 24
                and place in (0, 8)
                and (count := next(left)) < examples
            ):
                case = example(count)
                each.status, each.violated = "expected" if number % 9 == 6 else "violated", 7
                each.message = MESSAGES[place // 8].format(name=case.mask[0])
                each.violation_class = ("freezing", "groups")[place // 8]
                found = casefile(row, each.id, each.message, case, *WHERE[place // 8])
                each.case = str(save(folder, found)[0].relative_to(folder.parent))
                script = folder / f"{count}.py"
                script.write_text(SCRIPT)
                each.reproducer = str(script.relative_to(folder.parent))
                row.status = "violated" if each.status == "violated" else row.status
        if number % 25 == 24:
            row.status, row.reason, row.invariants = (
                "unusable",
                "cannot step with nothing frozen: ValueError: no",
                [],
            )
        row.judgements = sum(each.judged for each in row.invariants)
        rows.append(row)
    environment = Environment(
        "0.2.0", "2.13.0", "6.170.15", platform.python_version(), "Linux", ["cpu", "cuda"], "ci", 7
    )
    return Results(environment, rows, totals(rows, 321.0))
