"""The network of a case as plain torch code, with the same values as `Architecture.build` gives it."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterable, Sequence

from frostproof.architecture import Architecture
from frostproof.case import Case
from frostproof.layers import Checkpointed, Layer, Residual, Sequential, Shape, TiedLinear

SPREAD = """def spread(module):  # norms and biases start away from ones and zeros, which hide stray updates
    for name, p in module.named_parameters():
        if p.dim() == 1:
            low, high = (0.5, 1.5) if name.endswith("weight") else (0.25, 0.75)
            nn.init.uniform_(p, low, high)
    return module
"""


def network(architecture: Architecture, device: str, dtype: str) -> str:
    """The call that builds the network, before weights are tied."""
    factory = ([] if device == "cpu" else [f'device="{device}"']) + ([] if dtype == "float32" else [f"dtype=torch.{dtype}"])
    return _quoted(_call(Sequential(architecture.layers), architecture.input.shape, factory))


def ties(architecture: Architecture) -> list[str]:
    """The statements that tie weights."""
    return [
        f"{expression(place.path)}.weight = {expression(architecture.places[place.layer.of].path)}.weight  # tied"
        for place in architecture.places
        if isinstance(place.layer, TiedLinear)
    ]


def _call(layer: Layer, shape: Shape, factory: Sequence[str]) -> str:
    if isinstance(layer, Sequential | Residual | Checkpointed):
        words = [_call(inner, received, factory) for _, inner, received in layer.inner(shape)]
        constructor = layer.constructor(shape)
        words += [f"{key}={value!r}" for key, value in constructor.kwargs.items()]
        return f"{'' if constructor.ours else 'nn.'}{constructor.name}({', '.join(words)})"
    constructor = layer.constructor(shape)
    call = str(constructor._replace(wrapper=""))
    if constructor.takes_factory and factory:
        call = f"{call[:-1]}{', ' if constructor.args or constructor.kwargs else ''}{', '.join(factory)})"
    if constructor.wrapper:
        call = f"nn.utils.{constructor.wrapper}({call})"
    return f"spread({call})" if layer.random_affine else call


def expression(name: str) -> str:
    """The Python expression of a module or parameter with this dotted name.

    >>> expression("1.0.weight")
    'model[1][0].weight'
    """
    return "model" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in name.split("."))


def parameters(case: Case, positions: Iterable[int]) -> str:
    """An expression for the parameters at `positions`, in this order."""
    wanted = list(positions)
    if wanted == list(range(len(case.parameters))):
        return "model.parameters()"
    words, whole = [], {place.uses[0]: place for place in case.architecture.places if len(place.uses) > 1 and _own(place.uses)}
    whole = {first: place for first, place in whole.items() if not isinstance(place.layer, TiedLinear)}
    while wanted:
        place = whole.get(wanted[0])
        if place is not None and wanted[: len(place.uses)] == list(place.uses):
            words.append(f"*{expression(place.path)}.parameters()")
            wanted = wanted[len(place.uses) :]
        else:
            words.append(expression(case.parameters[wanted.pop(0)].name))
    if len(words) == 1 and words[0].startswith("*"):
        return words[0][1:]
    return f"[{', '.join(words)}]"


def _own(uses: Sequence[int]) -> bool:
    return list(uses) == list(range(uses[0], uses[0] + len(uses)))


def adapters(architecture: Architecture) -> tuple[list[str], list[str]]:
    """Imports and definitions of what the network uses and `torch.nn` does not have."""
    used, spreads = set(), False
    stack: list[tuple[Layer, Shape]] = [(place.layer, place.shape) for place in architecture.places]
    while stack:
        layer, shape = stack.pop()
        spreads = spreads or layer.random_affine
        constructor = layer.constructor(shape)
        if constructor.ours:
            used.add(constructor.name)
        if isinstance(layer, Residual | Checkpointed):
            stack += [(inner, received) for _, inner, received in layer.inner(shape)]
    from frostproof import modules

    texts = [_plain(inspect.getsource(getattr(modules, name))) for name in sorted(used)]
    if any("time_first" in text for text in texts):
        texts.insert(0, _plain(inspect.getsource(modules._time_first)))
    imports = ["from torch.utils.checkpoint import checkpoint"] if "Checkpointed" in used else []
    return imports, texts + [SPREAD] * spreads


class _Untyped(ast.NodeTransformer):
    """Drops annotations, docstrings and casts."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._bare(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._bare(node)

    def _bare(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        if ast.get_docstring(node) is not None:
            del node.body[0]
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        assert node.value is not None
        return ast.Assign([node.target], self.visit(node.value))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        return node.args[1] if isinstance(node.func, ast.Name) and node.func.id == "cast" else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = without_underscore(node.id)
        return node


def without_underscore(name: str) -> str:
    """`_time_first` as a script calls it: nothing there is private."""
    return name[1:] if len(name) > 1 and name[0] == "_" != name[1] else name


def _plain(source: str) -> str:
    return untyped(ast.parse(textwrap.dedent(source)))


def untyped(tree: ast.Module) -> str:
    """The source of one function or class as a script would have it: no types, no docstring, no private name."""
    tree = _Untyped().visit(tree)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef | ast.ClassDef)
    definition.name = without_underscore(definition.name)
    return "\n".join(_spaced(_quoted(ast.unparse(ast.fix_missing_locations(tree))).splitlines())) + "\n"


def _quoted(source: str) -> str:
    """The same source with double quotes around its strings, as formatters write them."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    lines = source.splitlines(keepends=True)
    for token in reversed(tokens):
        if token.type == tokenize.STRING and token.string[0] == "'" and '"' not in token.string:
            (row, start), (_, end) = token.start, token.end
            line = lines[row - 1]
            lines[row - 1] = f'{line[:start]}"{token.string[1:-1]}"{line[end:]}'
    return "".join(lines)


def _spaced(lines: Sequence[str]) -> Iterable[str]:
    """One empty line before each method but the first."""
    first = True
    for line in lines:
        if not line.strip():
            continue
        if line.startswith("    def "):
            if not first:
                yield ""
            first = False
        yield line
