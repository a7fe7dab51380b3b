"""What each invariant's script asserts: whose training it needs, what it notes on the way, and when it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

from frostproof.case import Case
from frostproof.invariants import HELD, NOT_JUDGED, Invariant
from frostproof.invariants.closure_is_honoured import fault_of
from frostproof.invariants.gradless_step_is_noop import NO_INF_CHECKS
from frostproof.invariants.no_grad_backward_raises import TEXT
from frostproof.invariants.progress import due, stuck
from frostproof.invariants.stale_grads_accumulate import left_before
from frostproof.observation import Moment, Trial
from frostproof.program import Step, Thaw, changes
from frostproof.reproducer.naming import Unprintable
from frostproof.reproducer.network import expression
from frostproof.reproducer.source import Statement, block

FEW = 4
"""As many numbers are shown all; of more, the pair that differs most."""

INTEGERS = {"float32": "int32", "float64": "int64", "bfloat16": "int16"}


@dataclass
class Claim:
    """`roles`: one or two; where two, the training is a function, run once for each and giving `returns`, and `labels` name
    the two results. `notes`: statements within the training (see `Notes`); `start`: before the first event, `setup` before
    that; `verdict`: statements that exit where it failed. `helpers`: what the script has to define."""

    roles: tuple[str, ...]
    index: int
    expected: str
    notes: dict[tuple[int, str], list[Statement]] = field(default_factory=dict)
    start: list[Statement] = field(default_factory=list)
    returns: str = ""
    verdict: list[Statement] = field(default_factory=list)


class View:
    """A trial that broke `invariant` at `moment`, and the words to say so in a script."""

    def __init__(self, trial: Trial, invariant: Invariant, moment: Moment, device: str) -> None:
        self.trial, self.invariant, self.moment, self.device = trial, invariant, moment, device
        self.case: Case = trial.case
        self.number = moment.number

    @property
    def role(self) -> str:
        """The first role that breaks the invariant by itself."""
        for role, seen in self.moment.seen.items():
            alone = self.moment._replace(seen={role: seen})
            try:
                if self.invariant.judge(self.trial, alone) not in (HELD, NOT_JUDGED):
                    return role
            except KeyError:  # asks for another role, and so for this one alone it says nothing
                continue
        raise Unprintable("no approach shows it by itself")

    def name(self, i: int) -> str:
        return self.case.parameters[i].name

    def of(self, i: int) -> str:
        return expression(self.name(i))

    def leave(self, text: str) -> str:
        """The statement that ends the script with a message; `text` is the inside of an f-string."""
        quote = "'" if '"' in text else '"'
        prefix = "f" if "{" in text else ""
        return f"sys.exit({prefix}{quote}{self.invariant.id}: {text}{quote})"

    def copy(self, i: int, name: str = "before") -> str:
        return f"{name} = {self.of(i)}.detach().clone()"

    def unlike(self, left: str, right: str) -> str:
        """A condition: the two tensors differ in some bit."""
        kind = INTEGERS[self.case.dtype]
        return f"not torch.equal({left}.view(torch.{kind}), {right}.view(torch.{kind}))"

    def differ(self, left: str, right: str, text: str, i: int) -> Statement:
        """Fails where two tensors, of parameter `i`, differ in some bit."""
        if prod(self.case.parameters[i].shape) <= FEW:
            return block(
                f"if {self.unlike(left, right)}:  # bitwise",
                self.leave(f"{text} {self.name(i)}: {{{left}.tolist()}} -> {{{right}.tolist()}}"),
            )
        numbers = f"{{{left}.flatten()[i]:.9g}} -> {{{right}.flatten()[i]:.9g}}"
        return block(
            f"if {self.unlike(left, right)}:  # bitwise",
            f"i = ({right} - {left}).abs().argmax()",
            self.leave(f"{text} {self.name(i)}[{{i}}]: {numbers}"),
        )

    def moved(self, i: int, text: str) -> list[Statement]:
        """Fails where parameter `i` is no longer what it was `before`."""
        return [f"after = {self.of(i)}.detach()", self.differ("before", "after", text, i)]

    def kept(self, claim: Claim, role: str, i: int, text: str) -> Claim:
        """The claim that parameter `i` has not moved in the event; in its step, where the forward pass rewrites weights."""
        if self.moment.seen[role].weights_at_step is None:
            claim.notes[self.number, "before"] = [self.copy(i)]
        elif isinstance(self.moment.event, Step) and self.moment.event.closure:
            claim.notes[self.number, "before"] = ["kept = []"]
            claim.notes[self.number, "handed"] = [f"kept[:] = [{self.of(i)}.detach().clone()]"]
            claim.verdict = ["(before,) = kept"]
        else:
            claim.notes[self.number, "handed"] = [self.copy(i)]
        claim.verdict += self.moved(i, text)
        return claim

    def first(self, left: tuple[object, ...], right: tuple[object, ...], positions: range | tuple[int, ...] | None = None) -> int | None:
        places = range(len(left)) if positions is None else positions
        return next((i for i in places if left[i] != right[i]), None)


def _frozen_weights_unchanged(view: View) -> Claim:
    role = view.role
    before = view.trial.weights_before(view.moment, role)
    i = view.first(before, view.moment.seen[role].weights, view.moment.frozen.never)
    assert i is not None
    claim = Claim((role,), view.number, f"{view.name(i)} is frozen throughout, so no bit of it may change")
    if view.case.parameters[i].renormed:
        return view.kept(claim, role, i, "moved the frozen")
    claim.start = [view.copy(i)]
    claim.verdict = view.moved(i, "moved the frozen")
    return claim


def _pair(view: View, one: str, other: str, why: str) -> Claim:
    """Compares two trainings: their weights, or else their losses, buffers, gradients or states, whichever differs first."""
    a, b = view.moment.seen[one], view.moment.seen[other]
    left, right = labels(view.trial, one, other)
    claim = Claim((one, other), view.number, why)
    claim.verdict = [_both(left, right)]
    whole = other in ("again", "resumed", "resumed-b") or view.invariant.id == "equivalent"
    trainable = None if whole else view.moment.frozen.trainable
    i = view.first(a.weights, b.weights, trainable)
    if i is not None:
        claim.returns = f"{view.of(i)}.detach()"
        if other == "again":
            # A second model in the place of the first would hide what depends on where its parameters are.
            claim.returns += ", model"
            claim.verdict = [f"({left}, _), ({right}, _) = train({quoted(left)}), train({quoted(right)})"]
        claim.verdict.append(view.differ(left, right, f"{left} -> {right} differ in", i))
    elif len(a.losses) != len(b.losses):
        claim.start = ["losses = []"]
        claim.notes[view.number, "pass"] = ["losses.append(loss)"]
        claim.returns = "len(losses)"
        text = f"{left} evaluated the loss {{{left}}} times, {right} {{{right}}} times"
        claim.verdict.append(block(f"if {left} != {right}:", view.leave(text)))
    elif a.losses != b.losses:
        claim.start = ["losses = []"]
        claim.notes[view.number, "pass"] = ["losses.append(loss.detach())"]
        claim.returns = "torch.stack(losses)"
        text = f"the losses differ: {{{left}.tolist()}} in {left}, {{{right}.tolist()}} in {right}"
        claim.verdict.append(block(f"if {view.unlike(left, right)}:  # bitwise", view.leave(text)))
    elif a.buffers != b.buffers:
        claim.returns = "[buffer.clone() for buffer in model.buffers()]"
        test = block("if not torch.equal(old, new):", view.leave("buffers differ: {old.tolist()} -> {new.tolist()}"))
        claim.verdict.append(block(f"for old, new in zip({left}, {right}):", test))
    elif a.gradients != b.gradients and a.gradients is not None and b.gradients is not None:
        return _gradients(view, one, other, why, tuple(range(len(a.gradients))))
    elif a.states != b.states:
        i = next(i for i in a.states if a.states[i] != b.states.get(i))
        claim.returns = _state(view, i)
        text = f"the state of {view.name(i)} differs: {{{left}}} -> {{{right}}}"
        claim.verdict.append(block(f"if {left} != {right}:", view.leave(text)))
    elif a.generators != b.generators:
        claim.returns = "torch.get_rng_state()"
        text = f"{left} and {right} leave the random number generator in different states"
        claim.verdict.append(block(f"if not torch.equal({left}, {right}):", view.leave(text)))
    else:
        raise Unprintable(f"{left} and {right} differ in nothing that a script could compare")
    return claim


def _both(left: str, right: str) -> str:
    return f"{left}, {right} = train({quoted(left)}), train({quoted(right)})"


def _gradients(view: View, one: str, other: str, why: str, positions: tuple[int, ...]) -> Claim:
    a, b = view.moment.seen[one].gradients, view.moment.seen[other].gradients
    assert a is not None
    assert b is not None
    left, right = labels(view.trial, one, other)
    i = view.first(a, b, positions)
    assert i is not None
    claim = Claim((one, other), view.number, why)
    # In a list, since a closure has names of its own; the first counts, as it may be called again.
    claim.start = ["grads = []"]
    claim.notes[view.number, "gradients"] = [f"grads.append({view.of(i)}.grad)"]
    if a[i] is None or b[i] is None:
        claim.returns = "grads[0] is not None"
        text = f"whether {view.name(i)} has a gradient differs: {{{left}}} in {left}, {{{right}}} in {right}"
        claim.verdict = [_both(left, right), block(f"if {left} != {right}:", view.leave(text))]
    else:
        claim.notes[view.number, "gradients"] = [f"grads.append({view.of(i)}.grad.to_dense().clone())"]
        claim.returns = "grads[0]"
        claim.verdict = [_both(left, right), view.differ(left, right, f"{left} -> {right} differ in the gradient of", i)]
    return claim


LABELS = {
    ("a", "again"): ("once", "again"),
    ("a", "resumed"): ("straight", "resumed"),
    ("b", "resumed-b"): ("straight", "resumed"),
    ("b", "cleared"): ("B", "cleared"),
    ("b", "second"): ("B", "second"),
    ("b", "rebuilt"): ("B", "rebuilt"),
}


def labels(trial: Trial, one: str, other: str) -> tuple[str, str]:
    """What a script calls two trainings: A and B by the names of their approaches, as identifiers."""
    if (one, other) == ("a", "b"):
        return trial.names[one].replace("-", "_"), trial.names[other].replace("-", "_")
    return LABELS[one, other]


def quoted(text: str) -> str:
    return f'"{text}"'


def _trainable_updates_match(view: View) -> Claim:
    return _pair(view, "a", "b", "A freezes by requires_grad=False, B by what the optimizer owns: what trains must train alike")


def _no_grad_allocated(view: View) -> Claim:
    seen = view.moment.seen["a"]
    assert seen.gradients is not None
    assert seen.cleared is not None
    i = next(i for i in view.moment.frozen.backward if seen.gradients[i] != seen.cleared[i])
    claim = Claim(("a",), view.number, f"{view.name(i)} has requires_grad=False, so backward leaves its .grad alone")
    text = f"backward {{}} the gradient of {view.name(i)}, which is frozen"
    if seen.cleared[i] is None:
        claim.notes[view.number, "gradients"] = [block(f"if {view.of(i)}.grad is not None:", view.leave(text.format("allocated")))]
    else:
        claim.notes[view.number, "cleared"] = [f"before = {view.of(i)}.grad.clone()"]
        claim.notes[view.number, "gradients"] = [
            block(f"if not torch.equal(before, {view.of(i)}.grad):", view.leave(text.format("changed")))
        ]
    return claim


def _no_graph_below(view: View) -> Claim:
    activations = view.moment.seen["a"].activations
    assert activations is not None
    graph = view.case.architecture.graph(view.moment.frozen.forward, view.case.differentiable_input)
    for place, activation, upstream in zip(view.case.architecture.places, activations, graph, strict=True):
        wrong = activation.requires_grad != upstream
        kept = not upstream and (not activation.is_leaf or activation.has_grad_fn or (activation.saved and not place.layer.keeps_inputs))
        if not (wrong or kept):
            continue
        leaf = "a leaf upstream of it requires grad" if upstream else "no leaf upstream of it requires grad"
        claim = Claim(("a",), view.number, f"{leaf}, so the output of layer {place.path} {'does' if upstream else 'has no graph'}")
        module = expression(place.path)
        if wrong:
            test = block(
                f"if output.requires_grad is {not upstream}:",
                view.leave(f"layer {place.path}: requires_grad={not upstream}, though {leaf}"),
            )
        else:
            test = block(
                "if output.grad_fn is not None or not output.is_leaf:", view.leave(f"layer {place.path} keeps a graph, though {leaf}")
            )
        claim.notes[view.number, "before"] = [block("def look(module, inputs, output):", test), f"{module}.register_forward_hook(look)"]
        return claim
    raise Unprintable("no output of a layer shows it")


def _no_grad_backward_raises(view: View) -> Claim:
    under = not isinstance(view.moment.event, Step)
    role = view.role if under else "a"
    seen, before = view.moment.seen[role], view.trial.weights_before(view.moment, role)
    why = "under no_grad" if under else "with every leaf frozen"
    claim = Claim((role,), view.number, f"a forward pass {why} has nothing to differentiate: backward raises, and nothing moves")
    if seen.backward_error is None or TEXT not in seen.backward_error:
        test: list[Statement] = [
            block("try:", "loss.backward()"),
            block(
                "except RuntimeError as error:",
                block(f"if {quoted(TEXT)} not in str(error):", view.leave("backward raised {error!r:.200}")),
            ),
            block("else:", view.leave(f"backward of a forward pass {why} did not raise")),
        ]
        claim.notes[view.number, "backward" if under else "pass"] = test
        return claim
    had = seen.cleared if seen.handed is None else seen.handed
    for i, (gradient, has) in enumerate(zip(had or (), seen.has_gradient, strict=False)):
        if has and gradient is None:
            claim.verdict = [block(f"if {view.of(i)}.grad is not None:", view.leave(f"a gradient of {view.name(i)} was allocated {why}"))]
            return claim
    i = next(i for i, w in enumerate(seen.weights) if w != before[i] and not (i in seen.owned and had and had[i] is not None))
    return view.kept(claim, role, i, f"step() after a forward pass {why} moved")


def _gradients_pass_through(view: View) -> Claim:
    during = view.moment.frozen
    trained = tuple(i for i in during.trainable if i not in during.forward and i not in during.backward)
    return _gradients(view, "a", "b", "a frozen layer hands on the same gradients as one that trains", trained)


def _gradless_step_is_noop(view: View) -> Claim:
    role = view.role
    seen, before = view.moment.seen[role], view.trial.weights_before(view.moment, role)
    claim = Claim((role,), view.number, "a parameter whose grad is None is left alone by step()")
    if seen.handed is not None:
        for i in seen.owned:
            if seen.handed[i] is not None:
                continue
            if seen.weights[i] != before[i]:
                return view.kept(claim, role, i, "step() moved, though its grad is None,")
            if seen.has_gradient[i]:
                claim.verdict = [block(f"if {view.of(i)}.grad is not None:", view.leave(f"step() allocated a gradient for {view.name(i)}"))]
                return claim
    claim.notes[view.number, "refused"] = [
        block(f"if {quoted(NO_INF_CHECKS)} not in str(error):", view.leave("GradScaler raised {error!r:.200}"))
    ]
    return claim


def _freeze_midway_holds(view: View) -> Claim:
    role = view.role
    seen, before = view.moment.seen[role], view.trial.weights_before(view.moment, role)
    midway = [
        i
        for i in view.case.frozen_midway
        if i in view.moment.frozen.step and not (i in seen.owned and seen.handed is not None and seen.handed[i] is not None)
    ]
    i = view.first(before, seen.weights, tuple(midway))
    claim = Claim((role,), view.number, "frozen midway, with no gradient: its weights, and what the optimizer knows of it, stay")
    if i is not None and _alone(view, role, i):
        return view.kept(claim, role, i, "moved, though it was frozen midway and has no gradient,")
    assert view.moment.before is not None
    states = view.moment.before[role].states
    i = next(i for i in midway if i in states and states[i] != seen.states.get(i))
    claim.notes[view.number, "before"] = [f"known = {_state(view, i)}"]
    claim.verdict = [
        f"after = {_state(view, i)}",
        block("if known != after:", view.leave(f"the state of {view.name(i)}, frozen midway, changed: {{known}} -> {{after}}")),
    ]
    return claim


def _state(view: View, i: int) -> str:
    """An expression for what the optimizer knows of parameter `i`, as plain values."""
    items = f"optimizer.state.get({view.of(i)}, {{}}).items()"
    return f"{{key: str(v.tolist() if torch.is_tensor(v) else v) for key, v in {items}}}"


def _alone(view: View, role: str, i: int) -> bool:
    """Whether parameter `i` was trained before."""
    earlier = view.trial.moments[: view.number]
    return any((handed := each.seen["a"].handed) is not None and handed[i] is not None and i not in each.frozen.step for each in earlier)


def _stuck(view: View, role: str, since: int, i: int, text: str, expected: str) -> Claim:
    claim = Claim((role,), view.number, expected)
    claim.notes[since, "before"] = [view.copy(i)]
    kind = INTEGERS[view.case.dtype]
    claim.verdict = [block(f"if torch.equal(before.view(torch.{kind}), {view.of(i)}.detach().view(torch.{kind})):", view.leave(text))]
    return claim


def _thaw_resumes(view: View) -> Claim:
    for earlier in view.trial.moments:
        names = [name for each in changes(earlier.event) if isinstance(each, Thaw) for name in each.names]
        frozen = view.case.frozen if earlier.number == 0 else view.case.course[earlier.number - 1].step
        thawed = tuple(
            i
            for i in map(view.case.positions.__getitem__, names)
            if i in frozen and all(i in moment.frozen.trainable for moment in view.trial.moments[earlier.number :])
        )
        for role in ("a", "b"):
            found = stuck(view.trial, role, earlier.number, thawed)
            if found is not None:
                text = f"{view.name(found[0])} was thawed, had a gradient, and has not moved since"
                return _stuck(view, role, earlier.number, found[0], text, "once thawed, a parameter with a gradient trains again")
    raise Unprintable("nothing that was thawed is stuck")


def _group_added_trains(view: View) -> Claim:
    seen = view.moment.seen["b"]
    if seen.added and not seen.stepped:
        before = view.trial.weights_before(view.moment, "b")
        i = view.first(before, seen.weights)
        if i is not None:
            claim = Claim(("b",), view.number, "adding a group moves nothing")
            claim.notes[view.number, "before"] = [view.copy(i)]
            claim.verdict = view.moved(i, "add_param_group moved")
            return claim
    earlier = view.trial.first_added("b")
    assert earlier is not None
    a = view.moment.seen["a"]
    if ("a", "b") not in view.trial.parted and view.first(a.weights, seen.weights, view.moment.frozen.trainable) is not None:
        return _pair(view, "a", "b", "a group that is added trains like one that was there from the start, and leaves the others alone")
    added = tuple(i for i in earlier.seen["b"].added if all(i in each.frozen.trainable for each in view.trial.moments[earlier.number :]))
    found = stuck(view.trial, "b", earlier.number, added)
    assert found is not None
    text = f"{view.name(found[0])}, in a group that was added, had a gradient and has not moved"
    return _stuck(view, "b", earlier.number, found[0], text, "what is in a group that was added trains")


def _checkpoint_resumes(view: View) -> Claim:
    for one, other in (("a", "resumed"), ("b", "resumed-b")):
        left, right = view.moment.seen[one], view.moment.seen[other]
        if (one, other) not in view.trial.parted and (left.weights, left.losses, left.buffers, left.states) != (
            right.weights,
            right.losses,
            right.buffers,
            right.states,
        ):
            return _pair(view, one, other, "a new model and optimizer that load the checkpoint go on bit for bit as without it")
    raise Unprintable("no resumed training differs")


def _flags_untouched(view: View) -> Claim:
    role = view.role
    seen = view.moment.seen[role]
    if seen.flipped:
        i = seen.flipped[0]
        frozen = role in ("a", "again", "resumed") and i in view.moment.frozen.step
        claim = Claim((role,), view.number, f"requires_grad of {view.name(i)} is the user's to set, and was {not frozen}")
        claim.verdict = [
            block(
                f"if {view.of(i)}.requires_grad is {frozen}:",
                view.leave(f"the optimizer flipped requires_grad of {view.name(i)} to {frozen}"),
            )
        ]
        return claim
    if not seen.grad_enabled:
        claim = Claim((role,), view.number, "an optimizer leaves the grad mode as it found it")
        claim.verdict = [block("if not torch.is_grad_enabled():", view.leave("the optimizer left gradients disabled"))]
        return claim
    claim = Claim((role,), view.number, "an optimizer keeps its parameters in the order in which it received them")
    listed = '[id(p) for group in optimizer.param_groups for p in group["params"]]'
    point = "handed" if changes(view.moment.event) else "before"
    claim.notes[view.number, point] = [f"order = {listed}"]
    claim.verdict = [block(f"if order != {listed}:", view.leave("the optimizer replaced or reordered parameters in param_groups"))]
    return claim


def _closure_is_honoured(view: View) -> Claim:
    role = view.role
    use = view.moment.seen[role].closure
    assert use is not None
    claim = Claim((role,), view.number, "step(closure) runs the closure with gradients enabled, and returns its loss")
    if not use.grad_enabled:
        claim.notes[view.number, "called"] = [
            block("if not torch.is_grad_enabled():", view.leave(fault_of(use, view.case.dtype).partition(":")[0]))
        ]
        return claim
    event = view.moment.event
    loss = "total" if isinstance(event, Step) and event.micro_batches > 1 else "loss"
    claim.notes[view.number, "before"] = ["losses = []"]
    claim.notes[view.number, "returning"] = [f"losses.append({loss}{'.item()' if view.device != 'meta' else ''})"]
    claim.notes[view.number, "stepped"] = ["returned = optimizer.step(closure)"]
    if use.calls == 0:
        claim.verdict = [block("if not losses:", view.leave("step(closure) never called the closure"))]
    elif view.device == "meta":  # there are no values to compare
        test = "if not isinstance(returned, torch.Tensor):"
        claim.verdict = [block(test, view.leave("step(closure) returned {returned!r:.200}, and the closure a loss"))]
    else:
        value = "returned.item() if isinstance(returned, torch.Tensor) else returned"
        claim.verdict = [
            block(f"if ({value}) not in losses:", view.leave("step(closure) returned {returned!r:.200}, and the closure {losses}"))
        ]
    return claim


def _zero_grad_clears(view: View) -> Claim:
    role = view.role
    seen, event = view.moment.seen[role], view.moment.event
    assert seen.cleared is not None
    to_none = bool(getattr(event, "set_to_none", True))
    for i in seen.zeroed:
        gradient = seen.cleared[i]
        if gradient is None:
            continue
        had = not isinstance(event, Step) or (view.moment.before is not None and view.moment.before[role].has_gradient[i])
        if not had or to_none or any(gradient):
            break
    claim = Claim((role,), view.number, "zero_grad clears what the optimizer owns, frozen or not, and allocates nothing")
    call = f"zero_grad(set_to_none={to_none})"
    grad = f"{view.of(i)}.grad"
    if not had or to_none:
        text = f"{call} left a gradient on {view.name(i)}" if had else f"{call} allocated a gradient for {view.name(i)}"
        test = f"if {grad} is not None:"
    else:
        test, text = f"if {grad} is not None and {grad}.count_nonzero():", f"{call} left a gradient on {view.name(i)}"
    claim.notes[view.number, "cleared"] = [block(test, view.leave(text))]
    return claim


def _repeats_itself(view: View) -> Claim:
    a, b, again = view.moment.seen["a"], view.moment.seen["b"], view.moment.seen.get("again")
    if again is not None and (a.weights, a.losses, a.gradients, a.buffers, a.generators) != (
        again.weights,
        again.losses,
        again.gradients,
        again.buffers,
        again.generators,
    ):
        return _pair(view, "a", "again", "the same training with the same seed gives the same bits, whatever new memory held before")
    claim = Claim(("a", "b"), view.number, "freezing draws no random numbers: A and B leave the generator in the same state")
    claim.returns = "torch.get_rng_state()"
    text = "A and B leave the random number generator in different states: one draws where the other does not"
    claim.verdict = ['A, B = train("A"), train("B")', block("if not torch.equal(A, B):", view.leave(text))]
    assert a.generators != b.generators
    return claim


def _stale_grads_harmless(view: View) -> Claim:
    trainable = view.moment.frozen.trainable
    for role in ("cleared", "second", "rebuilt"):
        compared = role in view.moment.seen and ("b", role) not in view.trial.parted
        if compared and view.first(view.moment.seen["b"].weights, view.moment.seen[role].weights, trainable) is not None:
            return _pair(view, "b", role, "gradients left on what the optimizer does not own change nothing for what it trains")
    raise Unprintable("no way of clearing differs")


def _stale_grads_accumulate(view: View) -> Claim:
    b, cleared = view.moment.seen["b"], view.moment.seen["cleared"]
    assert b.cleared is not None
    assert b.gradients is not None
    claim = Claim(("b", "cleared"), view.number, "the gradient that B leaves on what is frozen is the sum of the steps', until cleared")
    left = left_before(view.trial, view.moment)
    touched = [i for i in view.moment.frozen.forward if left is not None and left[i] != b.cleared[i]]
    if touched and getattr(view.moment.event, "zeroed_by", "") == "optimizer":
        i, grad = touched[0], f"{view.of(touched[0])}.grad"
        claim.roles = ("b",)
        claim.start = ["kept = []"]  # a list, as this may be inside a closure
        claim.notes[view.number - 1, "handed"] = [f"kept.append({grad}.clone())"]
        text = f"the gradient that B left on {view.name(i)} was touched before backward"
        claim.notes[view.number, "cleared"] = [
            block(f"if {grad} is None or not torch.equal(kept[-1], {grad}):", view.leave(text)),
        ]
        return claim
    from frostproof.bits import added

    for i in view.moment.frozen.forward:
        due = b.cleared[i]
        for fresh in cleared.passes:
            right = fresh[i]
            due = right if due is None else due if right is None else added(due, right, view.case.dtype)
        if due != b.gradients[i]:
            break
    grad = f"{view.of(i)}.grad"
    claim.start = ["grads = []"]
    claim.notes[view.number, "cleared"] = [f"grads.append(0 if {grad} is None else {grad}.clone())"]
    claim.notes[view.number, "pass"] = [f"grads.append({grad}.clone())"]
    claim.returns = "grads"
    claim.verdict = [
        'left, fresh = train("B"), train("cleared")',
        "due = sum(fresh[1:], left[0])",
        block(
            "if not torch.equal(left[-1], due):",
            view.leave(f"the gradient that B leaves on {view.name(i)} is {{left[-1].tolist()}}, and the sum {{due.tolist()}}"),
        ),
    ]
    return claim


def _buffers_hold_in_eval(view: View) -> Claim:
    role = view.role
    seen, before = view.moment.seen[role], view.trial.buffers_before(view.moment, role)
    i = next(i for i in seen.held if seen.buffers[i] != before[i])
    claim = Claim((role,), view.number, "a frozen module in eval mode keeps its buffers")
    claim.notes[view.number, "before"] = [f"before = list(model.buffers())[{i}].clone()"]
    claim.verdict = [
        f"after = list(model.buffers())[{i}]",
        block(
            "if not torch.equal(before, after):",
            view.leave("a buffer of a frozen module in eval mode changed: {before.tolist()} -> {after.tolist()}"),
        ),
    ]
    return claim


def _trainable_moves(view: View) -> Claim:
    for earlier in view.trial.moments:
        for i in earlier.frozen.trainable:
            if earlier.seen["a"].stepped and due(view.trial, earlier, "a", i):
                text = f"{view.name(i)} had a gradient, and nothing that is trainable has moved"
                return _stuck(view, "a", 0, i, text, f"{view.name(i)} is trainable and gets a gradient, so it moves")
    raise Unprintable("no parameter had a gradient that ought to move it")


def _no_state_for_frozen(view: View) -> Claim:
    i = next(i for i in view.moment.frozen.never if i in view.moment.seen["a"].stateful)
    claim = Claim(("a",), view.number, f"{view.name(i)} never had a gradient, so the optimizer needs no state for it")
    state = f"optimizer.state.get({view.of(i)})"
    claim.verdict = [
        block(f"if {state}:", view.leave(f"the optimizer holds {{list({state})}} for {view.name(i)}, which never had a gradient"))
    ]
    return claim


def _cost_bounded(view: View) -> Claim:
    a, b = view.moment.seen["a"].cost, view.moment.seen["b"].cost
    assert a is not None
    assert b is not None
    left, right = labels(view.trial, "a", "b")
    claim = Claim(("a", "b"), view.number, "freezing by requires_grad spares work in backward and memory for it, and never takes more")
    claim.start, claim.returns = ["spent = []"], "spent[0]"
    if a.backward_flops > b.backward_flops:
        what = "FLOPs in backward"
        claim.notes[view.number, "before"] = [
            "from torch.utils.flop_counter import FlopCounterMode",
            "flops = FlopCounterMode(display=False)",
            "model.register_forward_hook(lambda *_: None if spent else flops.__enter__() and None)",
        ]
        claim.notes[view.number, "pass"] = [
            block("if not spent:", "flops.__exit__(None, None, None)", "spent.append(flops.get_total_flops())")
        ]
    else:
        what = "bytes saved for backward"
        claim.notes[view.number, "before"] = [
            "saved = {}  # storages that the graph holds",
            block("def keep(tensor):", "saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()", "return tensor"),
            "hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)",
            "hooks.__enter__()",
            block(
                "def finish(module, inputs, outputs):",
                block("if not spent:", "hooks.__exit__()", "spent.append(sum(saved.values()))"),
            ),
            "model.register_forward_hook(finish)",
        ]
    text = f"{{{left}}} {what} in {left}, {{{right}}} in {right}"
    claim.verdict = [_both(left, right), block(f"if {left} > {right}:", view.leave(text))]
    return claim


def _equivalent(view: View) -> Claim:
    return _pair(view, "a", "b", "two ways to freeze the same layers, equivalent if all weights, losses and buffers have the same bits")


CLAIMS: dict[str, Callable[[View], Claim]] = {
    "equivalent": _equivalent,
    "frozen-weights-unchanged": _frozen_weights_unchanged,
    "trainable-updates-match": _trainable_updates_match,
    "no-grad-allocated": _no_grad_allocated,
    "no-graph-below": _no_graph_below,
    "no-grad-backward-raises": _no_grad_backward_raises,
    "gradients-pass-through": _gradients_pass_through,
    "gradless-step-is-noop": _gradless_step_is_noop,
    "freeze-midway-holds": _freeze_midway_holds,
    "thaw-resumes": _thaw_resumes,
    "group-added-trains": _group_added_trains,
    "checkpoint-resumes": _checkpoint_resumes,
    "flags-untouched": _flags_untouched,
    "closure-is-honoured": _closure_is_honoured,
    "zero-grad-clears": _zero_grad_clears,
    "repeats-itself": _repeats_itself,
    "stale-grads-harmless": _stale_grads_harmless,
    "stale-grads-accumulate": _stale_grads_accumulate,
    "buffers-hold-in-eval": _buffers_hold_in_eval,
    "trainable-moves": _trainable_moves,
    "no-state-for-frozen": _no_state_for_frozen,
    "cost-bounded": _cost_bounded,
}
