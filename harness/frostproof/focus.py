"""Where to look in a counterexample: the event and the parameters that its message names."""

from __future__ import annotations

import re
from typing import NamedTuple

from frostproof.case import Case, Positions


class Focus(NamedTuple):
    """The number of the event at which it shows, where the message has one, and positions of the parameters that it names."""

    event: int | None
    parameters: Positions

    @classmethod
    def of(cls, case: Case, message: str) -> Focus:
        numbers = [int(number) for number in re.findall(r"at event (\d{1,3})\b", message)]
        event = next((number for number in reversed(numbers) if number < len(case.program)), None)
        for each in set(case.program):
            message = message.replace(repr(each), "")  # an event names what it freezes, which is not what moved
        named = set(re.findall(r"(?<![\w.])\d+(?:\.\w+)+", message))
        return cls(event, tuple(i for i, parameter in enumerate(case.parameters) if parameter.name in named))
