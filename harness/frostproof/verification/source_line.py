"""The line of an optimizer's source that moved a weight, or that raised.

The smallest case is run once more, on all its ranks, and each line is watched.
"""

from __future__ import annotations

import inspect
from typing import Any

from frostproof.approaches.approach import Approach, Approaches
from frostproof.approaches.helper import Helper
from frostproof.errors import LostError
from frostproof.invariants.invariant import ShownBreach
from frostproof.spec.setting import EAGER
from frostproof.spec.subject import Subject
from frostproof.training.observation import Crash
from frostproof.training.source_lines import SourceLine
from frostproof.trial.lockstep import copies_of


def find_source_line(
    shown: ShownBreach, subject: Subject, approaches: Approaches
) -> SourceLine | None:
    """The line that moved a weight that had to stay, or that raised; None where it is not known.

    It is the innermost line of the optimizer's library, or else of torch's optimizers. If the
    user's own way is at fault, it is the first line of what freezes there.
    """
    if shown.breach.kind.by_way and approaches.way is not None:
        return _beginning(approaches.way)
    if shown.breach.kind.raises:
        return shown.crash.source
    if shown.breach.kind.id != "moved" or subject.factory is None:
        return None
    return _writer(shown, subject, approaches)


def _beginning(way: Approach) -> SourceLine | None:
    """The first line of the function that freezes."""
    function: Any = way.functions["freeze"] if isinstance(way, Helper) else type(way).freeze
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code and SourceLine(code.co_filename, code.co_firstlineno, code.co_name)


def _writer(shown: ShownBreach, subject: Subject, approaches: Approaches) -> SourceLine | None:
    """Run the case again up to the breach, and watch the parameter in its event.

    Python does not see the lines of a compiled step, so nothing is compiled.
    """
    (role, *_), number = shown.breach.roles, shown.breach.event
    case, (position, *_) = shown.trial.case, shown.breach.parameters
    if subject.setting.compiles:
        subject = subject.in_setting(EAGER)
    roles = {role: approaches.roles_for(case)[role]}
    calls: list[tuple[Any, ...]] = [("build",)]
    calls += [("run", i, False, False) for i in range(number)]
    try:
        copies = copies_of(case, subject, shown.device, roles, ())
        for call in calls:
            if any(isinstance(each, Crash) for each in copies.call(role, *call)):
                return None
        found: Any = copies.call(role, "watch", number, position)[shown.trial.rank]
        copies.call(role, "release")
    except LostError:
        return None
    return found if isinstance(found, SourceLine) else None
