"""Each optimizer of `broken` and `broken_programs` under each protocol: `SamDecaysEverything`.

The scripts of counterexamples import these classes, so that this module needs only torch.
"""

from __future__ import annotations

from types import ModuleType

from torch.optim import Optimizer

from tests.helpers import broken, broken_programs, protocols
from tests.helpers.broken import Sound
from tests.helpers.protocols import Plain


def named(protocol: type[Optimizer], optimizer: type[Optimizer]) -> str:
    """The name of the class here that has both."""
    return f"{protocol.__name__}{optimizer.__name__}"


def classes(module: ModuleType, base: type[Optimizer]) -> list[type[Optimizer]]:
    """The subclasses of `base` that a module defines."""
    found = [each for each in vars(module).values() if isinstance(each, type)]
    return [each for each in found if each.__module__ == module.__name__ and issubclass(each, base)]


for _protocol in classes(protocols, Plain):
    for _optimizer in (*classes(broken, Sound), *classes(broken_programs, Sound)):
        _name = named(_protocol, _optimizer)
        globals()[_name] = type(_name, (_protocol, _optimizer), {"__module__": __name__})
