"""Scripts of counterexamples: mended by a correct optimizer, and run many in one process."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shutil
import sys
import traceback
from pathlib import Path

import torch

from frostproof.approaches.approach import Approach, Approaches
from frostproof.counterexamples.execution import Execution, verdict
from frostproof.process.fence import fenced
from tests.helpers import broken, broken_programs, broken_rarely, broken_together, protocols
from tests.helpers.broken import Sound
from tests.helpers.crossed import classes
from tests.helpers.protocols import Plain

MODULES = {
    "broken": broken,
    "broken_programs": broken_programs,
    "broken_rarely": broken_rarely,
    "broken_together": broken_together,
}

CORRECT = {
    "freeze": "def freeze(model, frozen):\n    for p in frozen:\n        p.requires_grad_(False)\n",
    "thaw": "def thaw(thawed):\n    for p in thawed:\n        p.requires_grad_(True)\n",
    "clear": "def clear(frozen):\n    pass\n",
    "between_passes": "def between_passes(frozen):\n    pass\n",
    "second": (
        "def second(frozen):\n    return torch.optim.SGD(frozen, lr=1.0) if frozen else None\n"
    ),
}
"""Each function that freezes, done right."""


def corrected(script: str, approaches: Approaches | None = None) -> str:
    """The script with a correct optimizer, and correct functions that freeze, for broken ones."""
    correct = dict(CORRECT)
    if approaches is not None and type(approaches.b).freeze is not Approach.freeze:
        # B only leaves frozen parameters out of the optimizer.
        correct["freeze"] = "def freeze(model, frozen):\n    pass\n"
    twins = {**dict.fromkeys(MODULES, "Heavy"), "broken": "Sound"}
    if "StepsInHooks" in script:
        twins["broken_rarely"] = "StepsInHooks"
    if re.search(r"optimizer\.(train|eval)\(\)", script):
        twins |= {"broken_programs": "HeavyInBothModes", "broken_rarely": "Averages"}
    for module, twin in twins.items():
        script = re.sub(
            rf"^from tests\.helpers\.{module} import (\w+)$",
            rf"from tests.helpers.{module} import {twin} as \1",
            script,
            flags=re.M,
        )
        bugs = "|".join(each.__name__ for each in classes(MODULES[module], Sound))
        known = "|".join(each.__name__ for each in classes(protocols, Plain))
        script = re.sub(
            rf"^from tests\.helpers\.crossed import ({known})({bugs})$",
            rf"from tests.helpers.crossed import \1{twin} as \1\2",
            script,
            flags=re.M,
        )
    for name, source in correct.items():
        start, head, rest = script.partition(f"\ndef {name}(")
        if head:
            script = f"{start}\n{source}\n\n{rest.partition(chr(10) * 3)[2]}"
    return script


def run_here(path: Path, invariant: str) -> Execution:
    """Run a script in this process, and put back what it changes; otherwise as `reproduces`."""
    errors, code = io.StringIO(), 0
    with fenced("cpu"), contextlib.redirect_stderr(errors):
        torch.use_deterministic_algorithms(False)
        torch.backends.mha.set_fastpath_enabled(True)
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as leave:
            code = 1
            print(leave.code, file=sys.stderr)
        except BaseException:  # a process that raises exits 1, too, and shows nothing
            code = 1
            traceback.print_exc()
    return verdict(code, errors.getvalue(), invariant)


def assert_fails_until_mended(
    text: str, invariant: str, approaches: Approaches, folder: Path
) -> Path:
    """Assert that the script shows the violation, and exits 0 once it is corrected. Its path."""
    broken, mended = folder / "broken.py", folder / "mended.py"
    broken.write_text(text)
    mended.write_text(corrected(text, approaches))
    ran = run_here(broken, invariant)
    assert ran.reproduced, ran.said
    assert run_here(mended, invariant).said == "it exits 0"
    return broken


def lay_out(folder: Path) -> None:
    """Put what scripts import into the folder, and a frostproof that cannot be imported."""
    helpers = folder / "tests" / "helpers"
    helpers.mkdir(parents=True)
    for path in (helpers.parent, helpers):
        (path / "__init__.py").touch()
    for name in (*MODULES, "protocols", "crossed"):
        shutil.copy(Path(__file__).with_name(f"{name}.py"), helpers)
    (folder / "frostproof.py").write_text("raise ImportError('a script needs no frostproof')\n")
