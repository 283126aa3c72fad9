"""Every small change that might be made to a module by mistake, one at a time: what ``score.py`` tries.

A comparison meets its edge or not, ``and`` is ``or``, a ``not`` is gone or too much, a number is one off, a sum is a
difference, nothing is returned, a statement or a ``raise`` is gone. Words are left alone: what a message says is not
behaviour.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import shorten

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.Break: ast.Continue,
    ast.Continue: ast.Break,
}
_LEFT_ALONE = {"annotation", "returns", "decorator_list"}  # the type checker looks after these
_CONDITIONS = {"test", "ifs"}


@dataclass(frozen=True)
class Change:
    """One change of a module: the lines that it is in, and how they read before and after."""

    file: str
    first: int
    last: int
    was: str
    now: str
    text: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.first}: {_short(self.was)}  ->  {_short(self.now)}"


def _short(text: str) -> str:
    return shorten(text, 100, placeholder=" ...")


def changes(file: str, source: str) -> list[Change]:
    """All changes of a module, in the order of its lines."""
    tree = ast.parse(source)
    return [
        Change(file, lines.lineno, lines.end_lineno or lines.lineno, *told)
        for owner, name, place, node, lines in list(_places(tree, None))
        for other in _instead(node, is_condition=name in _CONDITIONS)
        for told in [_told(tree, owner, name, place, other, lines)]
    ]


Place = tuple[ast.AST, str, "int | None", ast.AST, "ast.stmt | ast.expr"]
"""Where a node stands: in which field of which other, at which place of a list; and what has the lines it is in."""


def _places(owner: ast.AST, lines: ast.stmt | ast.expr | None) -> Iterator[Place]:
    for name, held in ast.iter_fields(owner):
        if name in _LEFT_ALONE or isinstance(owner, ast.JoinedStr):
            continue
        for place, node in enumerate(held) if isinstance(held, list) else [(None, held)]:
            if isinstance(node, ast.AST):
                inner = node if isinstance(node, ast.stmt | ast.expr) and not _is_part(node) else lines
                if inner is not None:
                    yield owner, name, place, node, inner
                yield from _places(node, inner)


def _is_part(node: ast.AST) -> bool:
    """Whether a node alone says too little to be shown."""
    return isinstance(node, ast.Constant | ast.Name | ast.Attribute)


def _instead(node: ast.AST, *, is_condition: bool) -> Iterator[ast.AST]:
    """What might stand there by mistake."""
    if type(node) in _SWAPPED:
        yield _SWAPPED[type(node)]()
    match node:
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int()):
            yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Raise() | ast.AugAssign() | ast.Delete():
            yield ast.Pass()
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()):
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        case ast.Name() | ast.Attribute() | ast.Call() | ast.NamedExpr() if is_condition:
            yield ast.UnaryOp(ast.Not(), node)


def _told(
    tree: ast.Module, owner: ast.AST, name: str, place: int | None, other: ast.AST, lines: ast.AST
) -> tuple[str, str, str]:
    """How the lines read before and after a change, and the whole module after it; the tree is left as it was."""
    held = getattr(owner, name)
    was = ast.unparse(lines)
    before = held if place is None else held[place]
    _put(owner, name, place, ast.copy_location(other, before))
    try:
        now = ast.unparse(other if before is lines else lines)
        return was, now, ast.unparse(tree)
    finally:
        _put(owner, name, place, before)


def _put(owner: ast.AST, name: str, place: int | None, node: ast.AST) -> None:
    if place is None:
        setattr(owner, name, node)
    else:
        getattr(owner, name)[place] = node
