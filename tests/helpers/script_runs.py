"""Scripts of counterexamples in the tests: with a correct optimizer in the place of the broken one, and run many to a process."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import sys
import traceback
from pathlib import Path

import torch

from frostproof.approaches.approach import Approach, Approaches
from frostproof.counterexamples.execution import Execution, verdict
from frostproof.process.fence import fenced

CORRECT = {
    "freeze": "def freeze(model, frozen):\n    for p in frozen:\n        p.requires_grad_(False)\n",
    "thaw": "def thaw(thawed):\n    for p in thawed:\n        p.requires_grad_(True)\n",
    "clear": "def clear(frozen):\n    pass\n",
    "between_passes": "def between_passes(frozen):\n    pass\n",
    "second": "def second(frozen):\n    return torch.optim.SGD(frozen, lr=1.0) if frozen else None\n",
}
"""Each function that freezes, done right."""


def corrected(script: str, approaches: Approaches | None = None) -> str:
    """The script with a correct optimizer, and correct functions that freeze, in the place of what is broken."""
    correct = dict(CORRECT)
    if approaches is not None and type(approaches.b).freeze is not Approach.freeze:
        correct["freeze"] = (
            "def freeze(model, frozen):\n    pass\n"  # it is B's, which only leaves it out of the optimizer
        )
    heavy = "HeavyInBothModes" if "optimizer.train()" in script else "Heavy"
    script = re.sub(
        r"^from tests\.helpers\.broken import (\w+)$",
        r"from tests.helpers.broken import Sound as \1",
        script,
        flags=re.M,
    )
    script = re.sub(
        r"^from tests\.helpers\.broken_programs import (\w+)$",
        rf"from tests.helpers.broken_programs import {heavy} as \1",
        script,
        flags=re.M,
    )
    for name, source in correct.items():
        start, head, rest = script.partition(f"\ndef {name}(")
        if head:
            script = f"{start}\n{source}\n\n{rest.partition(chr(10) * 3)[2]}"
    return script


def run_here(path: Path, invariant: str) -> Execution:
    """As `reproduces`, in this process: what a script changes in it is put back."""
    errors, code = io.StringIO(), 0
    with fenced("cpu"), contextlib.redirect_stderr(errors):
        torch.use_deterministic_algorithms(False)
        torch.backends.mha.set_fastpath_enabled(True)
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as leave:
            code = 1
            print(leave.code, file=sys.stderr)
        except BaseException:  # what is not caught ends a process with 1, too, and shows nothing
            code = 1
            traceback.print_exc()
    return verdict(code, errors.getvalue(), invariant)
