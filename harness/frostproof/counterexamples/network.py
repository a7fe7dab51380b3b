"""The modules of a network that `torch.nn` does not have, as plain source."""

from __future__ import annotations

import ast
import inspect
import textwrap
import tokenize
from collections.abc import Iterable, Sequence
from typing import Any

from frostproof.spec.architecture import Architecture
from frostproof.spec.layers import Checkpointed, Layer, Residual, Shape, modules
from frostproof.spec.user_model import UserModel
from frostproof.training.source import tokens_of


def adapters(architecture: Architecture | UserModel) -> tuple[list[str], list[str]]:
    """Imports and definitions of what the statements use, and `torch.nn` does not have."""
    if isinstance(architecture, UserModel):
        if architecture.one_output or architecture.step:
            return [*architecture.imports], []
        imported = "from torch.utils._pytree import tree_leaves"
        return [*architecture.imports, imported], [plain(modules.mean_square)]
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
    texts = [plain(getattr(modules, name)) for name in sorted(used)]
    if any("time_first" in text for text in texts):
        texts.insert(0, plain(modules._time_first))
    imports = ["from torch.utils.checkpoint import checkpoint"] if "Checkpointed" in used else []
    return imports, texts + [plain(modules.spread)] * spreads


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


def plain(thing: Any) -> str:
    """The source of a function or class of ours, as a script has it."""
    return untyped(ast.parse(textwrap.dedent(inspect.getsource(thing))))


def untyped(tree: ast.Module) -> str:
    """The source of one function or class without types, docstring and private names."""
    tree = _Untyped().visit(tree)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef | ast.ClassDef)
    definition.name = without_underscore(definition.name)
    return (
        "\n".join(_spaced(_quoted(ast.unparse(ast.fix_missing_locations(tree))).splitlines()))
        + "\n"
    )


def _quoted(source: str) -> str:
    """The same source with double quotes around its strings, as formatters write them."""
    tokens = tokens_of(source)
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
