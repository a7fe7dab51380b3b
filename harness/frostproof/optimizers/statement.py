"""A Subject as Python: in what it differs from another, and a statement that can be pasted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, get_args

from hypothesis.strategies import SearchStrategy

from frostproof.optimizers.discovery import never_drawn
from frostproof.optimizers.measurements import TRIED
from frostproof.spec.subject import Backward, Closure, ParameterKind, Subject, Takes, values_of
from frostproof.training.naming import Naming

_OF_THE_RESULT = ("needs", "discovered", "stated", "version", "known_cases", "not_tried")
"""Fields that nobody has to state."""

_WAYS = ("takes", "lists", "keys", "arguments", "closure", "backward", "parameters", "dtypes")
"""Fields that tell one way to use an optimizer from another."""

_CHOICES = {"takes": Takes, "closure": Closure, "backward": Backward, "parameters": ParameterKind}


def changes(subject: Subject, other: Subject) -> dict[str, str]:
    """The fields in which `other` is used in another way, each as `name=value`.

    >>> changes(Subject("a", None), Subject("a", None, closure="required"))
    {'closure': 'closure="required"'}
    """
    naming = Naming()
    values = {name: getattr(other, name) for name in _WAYS}
    return {
        name: f"{name}={_value(naming, value)}"
        for name, value in values.items()
        if value != getattr(subject, name)
    }


def statement(subject: Subject, *, unusable: bool) -> str:
    """A statement of this subject, and its imports.

    If it is `unusable`, its blanks are to be filled in, and the fields that most often differ have
    their choices beside them.
    """
    naming = Naming()
    stated: dict[str, str] = {
        "target": naming.value(subject.target),
        "factory": naming.of(subject.factory, subject.target),
    }
    for each in fields(Subject):
        value = getattr(subject, each.name)
        if each.name == "unable":  # What a run finds out anyway may be mended one day.
            value = tuple(ability for ability in value if ability not in TRIED)
        if each.name not in (*stated, *_OF_THE_RESULT) and not _is_default(each, value):
            stated[each.name] = _value(naming, value)
    values = values_of(subject.choices)
    comments = {"space": "  # draws one alternative of each choice: (name, value) pairs"}
    if values:
        stated["space"], comments = _value(naming, values), {}
    if subject.needs:
        blanks = dict.fromkeys(subject.needs, ...)
        stated["arguments"] = _value(naming, {**subject.arguments, **blanks})
    elif unusable:
        stated.setdefault("arguments", "{}")
        for name, choices in _CHOICES.items():
            stated.setdefault(name, naming.value(getattr(subject, name)))
            comments[name] = f"  # {', '.join(get_args(choices))}"
    words = f"{subject.name.rpartition(':')[2]} subject"
    coupled = stated.pop("coupled", None)
    lines = [
        f"    {each.name}={stated[each.name]},{comments.get(each.name, '')}"
        for each in fields(Subject)
        if each.name in stated
    ]
    if coupled is not None:
        lines.append(f"    # if that is by design: coupled={coupled},")
    imports = {"from frostproof import Subject", *naming.imports}
    ordered = sorted(imports, key=lambda line: (line.startswith("from"), line))
    name = re.sub(r"\W", "_", words).upper()
    if isinstance(subject.space, SearchStrategy):
        lines.append("    # space=..., the strategy that it has now")
    if subject.discovered and not unusable and (kept := never_drawn(subject)):
        lines.append(f"    # space has no values of {', '.join(kept)}: always the default")
    if not subject.expected_failures:
        lines.append('    # expected_failures={"no-state-for-frozen": "the reason"},')
    return "\n".join([*ordered, "", f"{name} = Subject(", *lines, ")"])


def _is_default(each: Any, value: Any) -> bool:
    default = each.default if each.default_factory is MISSING else each.default_factory()
    return bool(value == default) or (each.name == "space" and not isinstance(value, tuple))


def _value(naming: Naming, value: Any) -> str:
    if isinstance(value, Mapping):
        words = (f"{naming.value(key)}: {_value(naming, each)}" for key, each in value.items())
        return f"{{{', '.join(words)}}}"
    return "..." if value is ... else naming.value(value)
