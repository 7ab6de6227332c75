"""Plants one small mistake at a time into a module: the kind that a review overlooks.

    compare     < becomes <= or >, == becomes !=, `is` becomes `is not`, `in` becomes `not in`
    extremum    min and max, all and any, argmax and argmin exchange, also as methods
    logic       `and` and `or` exchange, an operand is dropped, `not` is dropped
    condition   an `if` is always or never taken; the values of `a if c else b` exchange
    arithmetic  + and -, * and / exchange, ** becomes *
    number      an integer is off by one, a float is doubled, True and False exchange
    order       the two parts of a pair, or two arguments side by side, exchange

Docstrings, annotations, decorators, assertions, imports and texts are left alone.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

EXCHANGED = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,), ast.Pow: (ast.Mult,),
}  # fmt: skip
NAMES = {
    "min": "max", "max": "min", "all": "any", "any": "all", "argmax": "argmin",
    "argmin": "argmax", "floor": "ceil", "ceil": "floor",
}  # fmt: skip
LEFT_ALONE = (ast.JoinedStr, ast.Assert, ast.Import, ast.ImportFrom)


Path = tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A module's tree, and one mistake that can be planted in it."""

    line: int
    kind: str
    before: str
    after: str
    tree: ast.Module
    path: Path
    made: ast.AST

    def __str__(self) -> str:
        """Return line and change."""
        return f"line {self.line}, {self.kind}: {self.before} -> {self.after}"

    def source(self) -> str:
        """Return the module's text with the mistake in it."""
        mutated = copy.deepcopy(self.tree)
        _, parent, name, index = _find(mutated, self.path)
        if index is None:
            setattr(parent, name, self.made)
        else:
            getattr(parent, name)[index] = self.made
        return ast.unparse(ast.fix_missing_locations(mutated))


def plant_mistakes(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module's text, in the order of its lines."""
    tree = ast.parse(source)
    for path, node in _walk(tree, ()):
        for kind, change in _changes(node):
            made = change(copy.deepcopy(node))
            before, after = ast.unparse(node), ast.unparse(made)
            if before != after:
                yield Mutant(
                    line=node.lineno, kind=kind, before=_short(before), after=_short(after),
                    tree=tree, path=path, made=made,
                )  # fmt: skip


def _walk(node: ast.AST, path: Path) -> Iterator[tuple[Path, ast.expr | ast.stmt]]:
    """Yield every expression and statement that may be changed, with the way to it."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params", "format_spec"}:
            continue
        children = [(None, value)] if isinstance(value, ast.AST) else []
        if isinstance(value, list):
            children = [(k, child) for k, child in enumerate(value) if isinstance(child, ast.AST)]
        for index, child in children:
            if isinstance(child, LEFT_ALONE) or _is_text(child) or _is_type(child):
                continue
            here = (*path, (name, index))
            if isinstance(child, (ast.expr, ast.stmt)):
                yield here, child
            yield from _walk(child, here)


def _is_text(node: ast.AST) -> bool:
    value = node.value if isinstance(node, ast.Expr) else node
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _is_type(node: ast.AST) -> bool:
    """Return whether a node is a type such as `Literal["a", "b"]`."""
    return isinstance(node, ast.Subscript) and getattr(node.value, "id", "") in {"Literal", "tuple"}


def _find(tree: ast.AST, path: Path) -> tuple[ast.AST, ast.AST, str, int | None]:
    node = parent = tree
    name, index = "", None
    for name, index in path:
        parent = node
        found = getattr(node, name)
        node = found if index is None else found[index]
    return node, parent, name, index


Change = Callable[[ast.AST], ast.AST]


def _changes(node: ast.AST) -> Iterator[tuple[str, Change]]:  # noqa: C901 - a table of kinds
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in EXCHANGED.get(type(operator), ()):
                yield "compare", _with_operator(place, other)
    elif isinstance(node, ast.BinOp):
        for other in EXCHANGED.get(type(node.op), ()):
            yield "arithmetic", lambda n, other=other: _set(n, op=other())
    elif isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield "logic", lambda n: _set(n, op=other())
        for place in range(len(node.values)):
            yield "logic", _without(place)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub, ast.Invert)):
        yield "logic", lambda n: n.operand
    elif isinstance(node, ast.If):
        for value in (True, False):
            yield "condition", lambda n, value=value: _set(n, test=ast.Constant(value))
    elif isinstance(node, ast.IfExp):
        yield "condition", lambda n: _set(n, body=n.orelse, orelse=n.body)
    elif isinstance(node, ast.Constant):
        yield from _numbers(node)
    elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        yield "extremum", lambda n: _set(n, id=NAMES[n.id])
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield "extremum", lambda n: _set(n, attr=NAMES[n.attr])
    elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.ctx, ast.Load):
        yield "order", lambda n: _set(n, elts=n.elts[::-1])
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") not in {"min", "max"}:
        for place in range(len(node.args) - 1):
            pair = node.args[place : place + 2]
            if not any(isinstance(each, (ast.Starred, ast.Constant)) for each in pair):
                yield "order", _exchanged(place)


def _numbers(node: ast.Constant) -> Iterator[tuple[str, Change]]:
    value = node.value
    if isinstance(value, bool):
        yield "number", lambda n: ast.Constant(not n.value)
    elif isinstance(value, int):
        yield "number", lambda n: ast.Constant(n.value + 1)
    elif isinstance(value, float):
        yield "number", lambda n: ast.Constant(2 * n.value if n.value else 1.0)


def _set(node: ast.AST, **values: object) -> ast.AST:
    for name, value in values.items():
        setattr(node, name, value)
    return node


def _with_operator(place: int, operator: type[ast.cmpop]) -> Change:
    def change(node: ast.AST) -> ast.AST:
        node.ops[place] = operator()  # type: ignore[attr-defined]
        return node

    return change


def _without(place: int) -> Change:
    def change(node: ast.AST) -> ast.AST:
        rest = [v for k, v in enumerate(node.values) if k != place]  # type: ignore[attr-defined]
        return rest[0] if len(rest) == 1 else _set(node, values=rest)

    return change


def _exchanged(place: int) -> Change:
    def change(node: ast.AST) -> ast.AST:
        args = node.args  # type: ignore[attr-defined]
        args[place], args[place + 1] = args[place + 1], args[place]
        return node

    return change


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 70 else f"{line[:67]}..."
