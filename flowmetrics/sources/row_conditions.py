"""When a template applies to a row: a small language of comparisons, compiled once to closures.

    kind == "item" and not (state in ["draft", "idea"] or attrs.score < 3)

Python's own parser reads the text and only the node types below are taken, so nothing in it can run. A field that is
missing is null. A text next to a number, true or false is read as one, because CSV has only texts; what still cannot
be ordered is not in order, so a comparison with it is false and never an error.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from fnmatch import translate
from typing import Final, TypeAlias

from flowmetrics.errors import nearest
from flowmetrics.sources.row_values import Read, Row, path_reader, text_of

Condition: TypeAlias = Callable[[Row], bool]

_CONSTANTS: Final[Mapping[str, bool | None]] = {"true": True, "false": False, "null": None}
_FUNCTIONS: Final = ("field", "glob", "startswith")
_EXAMPLE: Final = 'kind == "item" and not state in ["draft", "idea"]'


def compile_condition(text: str) -> Condition:
    """Whether a condition holds for a row. Raises ValueError with what is wrong in the text.

    Comparisons `== != < <= > >=`, `in`, `not in`; `and`, `or`, `not`; parentheses; names with dots; texts, numbers,
    true, false, null, lists; `startswith(state, "In ")`, `glob(state, "In*")`; `field("Issue Type")` for a name that
    is not a word.

    >>> holds = compile_condition('kind == "item" and attrs.score >= 9')
    >>> holds({"kind": "item", "attrs": {"score": "10"}}), holds({"kind": "item"})
    (True, False)
    """
    try:
        return _truth(_compile(_parse(text)))
    except (MemoryError, RecursionError):
        raise ValueError(f'the condition "{text[:40]}" goes on too deep; write a shorter one') from None


def _parse(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an odd escape such as "\\d" is a mistake, not a warning on standard error
            return ast.parse(text.strip().replace("\n", " "), mode="eval").body
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f'the condition "{text}" cannot be read ({reason}); write it as in {_EXAMPLE}') from None


def _compile(node: ast.expr) -> Read:
    compiler = _COMPILERS.get(type(node))
    if compiler is None:
        raise ValueError(f'the condition holds "{ast.unparse(node)}", which is not taken; write it as in {_EXAMPLE}')
    return compiler(node)


def _name(node: ast.Name) -> Read:
    return _constant(_CONSTANTS[node.id]) if node.id in _CONSTANTS else path_reader(node.id)


def _attribute(node: ast.Attribute) -> Read:
    names = [node.attr]
    base = node.value
    while isinstance(base, ast.Attribute):
        names.append(base.attr)
        base = base.value
    if not isinstance(base, ast.Name):
        raise ValueError(f'the condition holds "{ast.unparse(node)}"; only names can stand before a dot')
    return path_reader(".".join([base.id, *reversed(names)]))


def _literal(node: ast.Constant) -> Read:
    if isinstance(node.value, str | int | float | None):
        return _constant(node.value)
    raise ValueError(f'the condition holds "{ast.unparse(node)}"; write a text, a number, true, false or null')


def _constant(value: object) -> Read:
    return lambda _row: value


def _list(node: ast.List | ast.Tuple) -> Read:
    readers = [_compile(element) for element in node.elts]
    return lambda row: [read(row) for read in readers]


def _unary(node: ast.UnaryOp) -> Read:
    if isinstance(node.op, ast.Not):
        holds = _truth(_compile(node.operand))
        return lambda row: not holds(row)
    number = node.operand.value if isinstance(node.operand, ast.Constant) else None
    if not isinstance(node.op, ast.USub) or not isinstance(number, int | float):
        raise ValueError(f'the condition holds "{ast.unparse(node)}"; only "not" and "-" before a number are taken')
    return _constant(-number)


def _joined(node: ast.BoolOp) -> Read:
    conditions = [_truth(_compile(value)) for value in node.values]
    if isinstance(node.op, ast.And):
        return lambda row: all(holds(row) for holds in conditions)
    return lambda row: any(holds(row) for holds in conditions)


def _compare(node: ast.Compare) -> Read:
    nodes = [node.left, *node.comparators]
    pairs = [_pair(left, op, right) for left, op, right in zip(nodes, node.ops, nodes[1:], strict=False)]
    return pairs[0] if len(pairs) == 1 else lambda row: all(holds(row) for holds in pairs)


def _pair(left: ast.expr, op: ast.cmpop, right: ast.expr) -> Condition:
    test = _TESTS.get(type(op))
    if test is None:
        raise ValueError(f'the condition compares "{ast.unparse(left)}" with "is"; write == or !=')
    read, other = _compile(left), _compile(right)
    words = _words(op, right)
    if words is None:
        return lambda row: test(read(row), other(row))

    def among(row: Row) -> bool:
        value = read(row)
        return value in words if type(value) is str else any(_equal(value, word) for word in words)

    return among


def _words(op: ast.cmpop, right: ast.expr) -> frozenset[str] | None:
    """The texts on the right of `==` or `in`: by far the most common condition, and a set answers it fast."""
    elements = [right] if isinstance(op, ast.Eq) else None
    if isinstance(op, ast.In) and isinstance(right, ast.List | ast.Tuple):
        elements = right.elts
    if elements is None:
        return None
    constants = [element.value for element in elements if isinstance(element, ast.Constant)]
    words = frozenset(value for value in constants if isinstance(value, str))
    return words if len(words) == len(elements) else None


def _call(node: ast.Call) -> Read:
    name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    if name not in _FUNCTIONS:
        hint = nearest(name, _FUNCTIONS)
        raise ValueError(f'the condition calls "{name}"; only {", ".join(_FUNCTIONS)} are known.{hint}')
    last = node.args[-1] if node.args else None
    takes = 1 if name == "field" else 2
    if (
        node.keywords
        or len(node.args) != takes
        or not isinstance(last, ast.Constant)
        or not isinstance(last.value, str)
    ):
        form = 'field("Issue Type")' if name == "field" else f'{name}(state, "In*")'
        raise ValueError(f'the condition holds "{ast.unparse(node)}"; write it as in {form}')
    if name == "field":
        return path_reader(last.value)
    pattern = re.compile(translate(last.value)) if name == "glob" else re.compile(re.escape(last.value))
    read = _compile(node.args[0])
    return lambda row: (text := text_of(read(row))) is not None and pattern.match(text) is not None


def _truth(read: Read) -> Condition:
    def holds(row: Row) -> bool:
        value = read(row)
        return value.lower() not in ("", "false") if isinstance(value, str) else bool(value)

    return holds


def _forgiving(test: Callable[..., object]) -> Callable[[object, object], bool]:
    def holds(left: object, right: object) -> bool:
        try:
            return bool(test(_beside(left, right), _beside(right, left)))
        except (TypeError, ArithmeticError):
            return False

    return holds


def _beside(value: object, other: object) -> object:
    """A value as it is read next to another."""
    if not isinstance(value, str):
        return value.isoformat() if isinstance(value, date) and isinstance(other, str) else value
    if isinstance(other, bool):
        return {"true": True, "false": False}.get(value.lower(), value)
    try:
        return float(value) if isinstance(other, int | float | Decimal) else value
    except ValueError:
        return value


_equal: Final = _forgiving(operator.eq)


def _unequal(left: object, right: object) -> bool:
    return not _equal(left, right)


def _among(value: object, values: object) -> bool:
    if isinstance(values, str):
        return isinstance(value, str) and value in values
    return isinstance(values, list | tuple | dict) and any(_equal(value, other) for other in values)


def _not_among(value: object, values: object) -> bool:
    return not _among(value, values)


_TESTS: Final[Mapping[type[ast.cmpop], Callable[[object, object], bool]]] = {
    ast.Eq: _equal,
    ast.NotEq: _unequal,
    ast.Lt: _forgiving(operator.lt),
    ast.LtE: _forgiving(operator.le),
    ast.Gt: _forgiving(operator.gt),
    ast.GtE: _forgiving(operator.ge),
    ast.In: _among,
    ast.NotIn: _not_among,
}

_COMPILERS: Final[Mapping[type[ast.expr], Callable[..., Read]]] = {
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Constant: _literal,
    ast.List: _list,
    ast.Tuple: _list,
    ast.UnaryOp: _unary,
    ast.BoolOp: _joined,
    ast.Compare: _compare,
    ast.Call: _call,
}
