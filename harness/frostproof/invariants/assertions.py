"""Assertions that scripts make: a condition at a mark, weights that move or stay, two trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from frostproof.invariants.breach import Assertion, Kind, ShownBreach
from frostproof.spec.program import Step
from frostproof.training.source import Block, Statement, block

Asserts = Callable[[ShownBreach], Assertion]

FEW = 4
"""Up to this size a tensor is shown whole; of a larger one, the pair that differs most."""


def leave(shown: ShownBreach, text: str) -> str:
    """The statement that ends the script with a message; `text` is the inside of an f-string."""
    quote = "'" if '"' in text else '"'
    prefix = "f" if "{" in text else ""
    return f"sys.exit({prefix}{quote}{shown.invariant}: {text}{quote})"


def exits_if(shown: ShownBreach, condition: str, text: str) -> Block:
    """The statement that ends the script with a message where a condition holds; templates."""
    return block(f"if {shown.fill(condition)}:", leave(shown, shown.fill(text)))


def check(
    condition: str,
    text: str,
    at: str = "",
    *,
    notes: Mapping[str, str | Sequence[Statement]] = {},
    after: Sequence[str] = (),
    returns: str = "",
    setup: str = "",
) -> Asserts:
    """An assertion that fails where `condition` holds, and then says `text`.

    `at`: the mark of the event at which it is made; by default the end. `after`: statements right
    before it. `notes`: mark -> statements there. `returns`: what each of two trainings returns that
    are compared. `setup`: a statement before the first event. Strings are templates.
    """

    def assertion(shown: ShownBreach) -> Assertion:
        event = shown.breach.event
        found = Assertion(returns=shown.fill(returns), setup=[setup] if setup else [])
        for point, statements in notes.items():
            filled = [shown.fill(statements)] if isinstance(statements, str) else [*statements]
            found.notes[event, point] = filled
        test = [*(trained(shown) if returns else ()), *map(shown.fill, after)]
        test.append(exits_if(shown, condition, text))
        if at:
            found.notes.setdefault((event, at), []).extend(test)
        else:
            found.verdict = test
        return found

    return assertion


def trained(shown: ShownBreach) -> list[Statement]:
    """The statement that runs the two trainings that are compared."""
    left, right = shown.left, shown.right
    return [f'{left}, {right} = train("{left}"), train("{right}")']


def differ(shown: ShownBreach, left: str, right: str, text: str) -> Statement:
    """Exits where two tensors, of the first parameter, differ in some bit. `text`: a template."""
    unlike = UNLIKE.format(left=left, right=right, integer=shown.integer)
    head, text = f"if {unlike}:  # bitwise", shown.fill(text)
    if prod(shown.case.parameters[shown.parameter].shape) <= FEW:
        numbers = f"{text} {shown.name}: {{{left}.tolist()}} -> {{{right}.tolist()}}"
        return block(head, leave(shown, numbers))
    numbers = f"{{{left}.flatten()[i]:.9g}} -> {{{right}.flatten()[i]:.9g}}"
    worst = f"i = ({right} - {left}).abs().argmax()"
    return block(head, worst, leave(shown, f"{text} {shown.name}[{{i}}]: {numbers}"))


UNLIKE = "not torch.equal({left}.view(torch.{integer}), {right}.view(torch.{integer}))"
"""A condition: two tensors differ in some bit."""


def _copy(shown: ShownBreach) -> str:
    return f"before = {shown.tensor}.detach().clone()"


def stays(text: str) -> Asserts:
    """An assertion that the first parameter does not move in the event.

    Where the forward pass or a switch of modes rewrites weights, it must not move in the step.
    """

    def assertion(shown: ShownBreach) -> Assertion:
        after: list[Statement] = [f"after = {shown.tensor}.detach()"]
        found = Assertion(verdict=[*after, differ(shown, "before", "after", text)])
        event, number = shown.record.event, shown.breach.event
        point = "step" if shown.observation.optimizer_called else "handed"
        if shown.observation.weights_at_step is None:
            point = "before"
        elif not any(parameter.renormed for parameter in shown.case.parameters):
            point = "switched"
        elif isinstance(event, Step) and event.closure:  # which has names of its own
            kept = f"kept[:] = [{shown.tensor}.detach().clone()]"
            found.notes = {(number, "before"): ["kept = []"], (number, "handed"): [kept]}
            found.verdict.insert(0, "(before,) = kept")
            return found
        found.notes[number, point] = [_copy(shown)]
        return found

    return assertion


def moves(text: str) -> Asserts:
    """An assertion that the first parameter has moved since an event."""

    def assertion(shown: ShownBreach) -> Assertion:
        view = f"view(torch.{shown.integer})"
        same = f"torch.equal(before.{view}, {shown.tensor}.detach().{view})"
        test = exits_if(shown, same, text)
        return Assertion({(shown.since or 0, "before"): [_copy(shown)]}, verdict=[test])

    return assertion


def _caught(shown: ShownBreach) -> Assertion:
    leaving = leave(shown, f"{shown.call} raised {{error!r:.200}}")
    caught = block(f"except {shown.crash.caught} as error:", leaving)
    return Assertion(guard=(shown.crash.phase, caught))


RAISES = Kind(
    "raises",
    "{crash.phase} raised {crash} {crash_at}, approach {approach}; {expected}",
    "{expected}, and so {call} must not raise here",
    _caught,
    raises=True,
)
"""The training ended with an exception; `expected` says where it does not."""
