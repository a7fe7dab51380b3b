"""A user's own model as data: what takes the place of a drawn network in a case."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from frostproof.errors import CaseError, UsageError
from frostproof.spec.architecture import Place
from frostproof.spec.layers import Layer, ParameterSpec

MOST_WEIGHTS = 1_000_000
"""A trial keeps the bits of all weights at every event."""

Call = Literal["model(x)", "model(*x)", "model(**x)"]
Form = Literal["function", "pair", "module"]


class Weight(NamedTuple):
    """A parameter of the model."""

    name: str
    shape: tuple[int, ...]
    sparse: bool
    """Whether its gradient is sparse."""
    renormed: bool
    """Whether the forward pass itself rewrites it."""


class UserModel(
    msgspec.Struct,
    frozen=True,
    repr_omit_defaults=True,
    tag_field="kind",
    tag=True,
    forbid_unknown_fields=True,
    dict=True,
):
    """A model that a function of the user returns, and what was found by trying it once."""

    factory: str
    """`module:name` of the function, or of the model itself."""

    form: Form
    """What that is: a function that returns a model, or a pair of it and its inputs; or a model."""

    inputs: str
    """The sizes of a random batch, as "8,3,32,32"; or `module:name` of a function that returns a
    batch. Empty where the factory returns a pair."""

    step: str
    """`module:name` of a function of the model and a batch that returns the loss; or empty. The
    loss is then the mean of the squares of all outputs."""

    call: Call
    """How the model is called with a batch: a tensor, a tuple or a dict."""

    one_output: bool
    """Whether it returns one tensor."""

    weights: tuple[Weight, ...]
    """Its parameters, in the order of `model.named_parameters()`."""

    modules: tuple[tuple[str, tuple[int, ...]], ...]
    """The path of each module with parameters of its own, and the positions of all parameters in
    it."""

    autocasts: bool
    """Whether it runs under autocast."""

    recomputes: bool
    """Whether backward runs part of the forward pass again."""

    thaws: bool
    """Whether some parameters come with requires_grad=False, which is undone."""

    # What an Architecture knows and a model does not tell

    knows_layers: ClassVar[bool] = False
    cuts: ClassVar[bool] = True
    needs_many: ClassVar[bool] = False
    tokens: ClassVar[bool] = True
    attends: ClassVar[bool] = True
    copies_input: ClassVar[bool] = False
    work: ClassVar[int] = 0

    @cached_property
    def parameters(self) -> tuple[ParameterSpec, ...]:
        return tuple(ParameterSpec(*each) for each in self.weights)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The modules with parameters of their own."""
        return tuple(Place(path, Layer(), (), uses) for path, uses in self.modules)

    def check(self) -> None:
        """Raise CaseError unless everything is a name, which the statements may then have."""
        for target in filter(None, (self.factory, self.step, self._batches)):
            if not _is_target(target):
                raise CaseError(f"{target!r} is not a module:name: search again")
        if not self._batches:
            try:
                sizes_of(self.inputs or "1")
            except UsageError as error:
                raise CaseError(str(error)) from None
        for name in (*(each.name for each in self.weights), *(path for path, _ in self.modules)):
            if name and not is_expressible(name):
                raise CaseError(f"{name!r} is not a name that Python code can have: search again")
        if not self.weights:
            raise CaseError("the model has no parameter: search again")
        if any(not 0 <= i < len(self.weights) for _, uses in self.modules for i in uses):
            raise CaseError("a module of the model has a parameter that is not there: search again")

    # Statements

    @property
    def _batches(self) -> str:
        return self.inputs if ":" in self.inputs else ""

    @property
    def imports(self) -> tuple[str, ...]:
        """The statements that import what the others use."""
        named = {
            "make_model": self.factory,
            "make_batch": self._batches,
            "training_step": self.step,
        }
        found = [
            f"from {module} import {name} as {title}"
            for title, target in named.items()
            for module, _, name in [target.partition(":")]
            if target
        ]
        return (*found, "from torch.utils._pytree import tree_map")

    def source(self, device: str = "cpu", dtype: str = "float32") -> tuple[str, ...]:
        """The statements that build `model`."""
        built = {
            "function": "model = make_model()",
            "pair": "model, _ = make_model()",
            "module": "model = copy.deepcopy(make_model)",
        }[self.form]
        thawed = ("model.requires_grad_(True)",) if self.thaws else ()
        moved = () if device == "cpu" else (f'model.to("{device}")',)
        return (built, *thawed, *moved)

    def build(self, device: str, dtype: str) -> Any:
        """The model that `source` describes."""
        names: dict[str, Any] = {}
        exec("\n".join(("import copy", *self.imports, *self.source(device, dtype))), names)
        return names["model"]

    def batch(
        self, size: int, device: str = "cpu", dtype: str = "float32", ranks: int = 1
    ) -> tuple[str, str]:
        """Expressions that make a batch, and its targets, of which there are none.

        Each of several ranks takes its own of as many batches.
        """
        found = "make_batch()" if self._batches else "make_model()[1]"
        if self.inputs and not self._batches:
            kind = "" if dtype == "float32" else f", dtype=torch.{dtype}"
            found = f"torch.randn({', '.join(map(str, sizes_of(self.inputs)))}{kind})"
        if ranks > 1:
            found = f"[{found} for _ in range({ranks})][torch.distributed.get_rank()]"
        if device != "cpu":
            there = f'each.to("{device}") if torch.is_tensor(each) else each'
            found = f"tree_map(lambda each: {there}, {found})"
        return found, "None"

    def outputs(self, samples: str, called: str = "model") -> str:
        """The expression for the outputs. `called`: the model, or what wraps it."""
        return self.call.replace("model", called)

    def loss(self, outputs: str, called: str = "model") -> str:
        """The expression for the loss of these outputs."""
        if self.step:
            return f"training_step({called}, x)"
        return f"{outputs}.square().mean()" if self.one_output else f"mean_square({outputs})"

    # What is tried on the model

    def graph(self, frozen: Collection[int], upstream: bool) -> tuple[bool, ...]:
        """Whether the loss requires grad, if the parameters at `frozen` do not."""
        return (self._tried(frozenset(frozen))[0],)

    def reached(self, frozen: Collection[int], upstream: bool) -> frozenset[int]:
        """Positions of the parameters that get a gradient, if those at `frozen` require none."""
        return self._tried(frozenset(frozen))[1]

    def _tried(self, frozen: frozenset[int]) -> tuple[bool, frozenset[int]]:
        known: dict[Any, Any] = self.__dict__.setdefault("_known", {})
        if frozen not in known:
            known[frozen] = _try(self, known, frozen)
        found: tuple[bool, frozenset[int]] = known[frozen]
        return found


class ModelUnderTest(NamedTuple):
    """A user's model, and the parameters around which masks are drawn."""

    network: UserModel
    frozen: tuple[str, ...]
    """Those that the user's patterns match, in the order of the model."""


def sizes_of(shape: str) -> tuple[int, ...]:
    """The sizes in "8,3,32,32". Raises UsageError if it is malformed.

    >>> sizes_of("8,3")
    (8, 3)
    """
    try:
        sizes = tuple(int(each) for each in shape.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(
            f"--input is {shape!r}: give the sizes of a batch with commas between, as "
            "--input 8,3,32,32"
        )
    return sizes


def is_expressible(name: str) -> bool:
    """Whether Python code can reach what has this dotted name.

    >>> is_expressible("blocks.0.weight"), is_expressible("a-b.weight")
    (True, False)
    """
    return all(
        re.fullmatch(r"\d+", part, re.ASCII)
        or (part.isidentifier() and not keyword.iskeyword(part))
        for part in name.split(".")
    )


def _is_target(target: str) -> bool:
    module, _, name = target.partition(":")
    return name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def _try(network: UserModel, kept: dict[Any, Any], frozen: frozenset[int]) -> Any:
    """Whether the loss has a graph, and which parameters get a gradient."""
    import torch

    from frostproof.spec.layers.modules import mean_square

    names: dict[str, Any] = {"torch": torch, "mean_square": mean_square}
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        exec("\n".join(network.imports), names)
        if "model" not in kept:
            kept["model"] = network.build("cpu", "float32")
        names["model"] = kept["model"]
        parameters = [*kept["model"].parameters()]
        for i, parameter in enumerate(parameters):
            parameter.requires_grad_(i not in frozen)
        names["x"] = eval(network.batch(1)[0], names)
        loss = eval(network.loss(network.outputs("x")), names)
        if loss.requires_grad:
            loss.backward()
        reached = frozenset(i for i, p in enumerate(parameters) if p.grad is not None)
        for parameter in parameters:
            parameter.grad = None
        return loss.requires_grad, reached
