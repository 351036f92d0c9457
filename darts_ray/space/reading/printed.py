"""What the original code and its successors print: `Genotype(normal=[...], ...)`."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from darts_ray.errors import ConfigError
from darts_ray.space.edges import Edge, Node
from darts_ray.space.first_format import ConvGenotype, RecurrentGenotype
from darts_ray.space.genotype import Genotype

_NAME = "Genotype("
_CONV = ("normal", "normal_concat", "reduce", "reduce_concat")
_RECURRENT = ("recurrent", "concat")


def read_printed(text: str) -> Genotype:
    """Read the one genotype in a text: a log line, a line of a source file, several lines.

    Cells may be flat lists of pairs, with as many edges per node as in the original code;
    nested lists, one per node (pt.darts); or triples `(primitive, state of the node, source)`,
    which leave nodes out (FairDARTS).

    Raises:
        ConfigError: there are several different genotypes, or one that is not understood.
    """
    calls = list(_calls(text))
    genotypes = {_read_call(call) for call in calls}
    if len(genotypes) > 1:
        raise ConfigError(
            f"Genotype: the text holds {len(genotypes)} different genotypes; give one of them."
        )
    return genotypes.pop()


def _calls(text: str) -> Iterator[str]:
    """Yield each `Genotype(...)` up to its closing bracket; quotes are stepped over."""
    start = text.find(_NAME)
    while start >= 0:
        depth, quote = 0, ""
        for position in range(start + len(_NAME) - 1, len(text)):
            letter = text[position]
            if quote:
                quote = "" if letter == quote else quote
            elif letter in "'\"":
                quote = letter
            elif letter in "([":
                depth += 1
            elif letter in ")]":
                depth -= 1
                if depth == 0:
                    break
        else:
            raise ConfigError("Genotype text is cut: its last bracket is not closed.")
        yield text[start : position + 1]
        start = text.find(_NAME, position)


def _read_call(text: str) -> Genotype:
    # logs of JSON lines and shells escape quotes and line ends
    plain = text.replace("\\n", " ").replace("\\'", "'").replace('\\"', '"')
    try:
        call = ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(f"Genotype text cannot be parsed: {reason}.") from error
    if not isinstance(call, ast.Call):
        raise ConfigError("Genotype text cannot be parsed: it is no call Genotype(...).")
    fields = {str(item.arg): _literal(item.value) for item in call.keywords}
    if call.args:
        names = _CONV if len(call.args) + len(fields) > 2 else _RECURRENT
        fields |= dict(zip(names, map(_literal, call.args), strict=False))
    names = _RECURRENT if "recurrent" in fields else _CONV
    missing = [name for name in names if name not in fields]
    surplus = [name for name in fields if name not in (*names, "edges_per_node")]
    if missing or surplus:
        raise ConfigError(
            "Genotype text must be Genotype(normal=..., normal_concat=..., reduce=...,"
            " reduce_concat=...) or Genotype(recurrent=..., concat=...)"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; not understood: {', '.join(surplus)}" if surplus else "")
            + "."
        )
    if names == _RECURRENT:
        return RecurrentGenotype(**{name: fields[name] for name in names})
    cells = [fields["normal"], fields["reduce"]]
    if any(_is_nested(cell) or _is_sparse(cell) for cell in cells):
        concat = {"normal": fields["normal_concat"], "reduce": fields["reduce_concat"]}
        return Genotype(
            {name: _nodes(name, fields[name], concat[name]) for name in concat}, concat
        )
    return ConvGenotype(**fields)


def _is_nested(cell: Any) -> bool:
    """Tell whether a cell is a list of nodes, each a list of pairs."""
    return isinstance(cell, list | tuple) and any(
        isinstance(node, list | tuple) and all(isinstance(edge, list | tuple) for edge in node)
        for node in cell
    )


def _is_sparse(cell: Any) -> bool:
    """Tell whether a cell is a list of triples."""
    return isinstance(cell, list | tuple) and any(
        isinstance(edge, list | tuple) and len(edge) == 3 for edge in cell
    )


def _nodes(name: str, cell: Any, concat: Any) -> tuple[Node, ...]:
    if not _is_sparse(cell):
        if not _is_nested(cell):
            raise ConfigError(f"Genotype: {name} is flat, but the other cell is not.")
        return tuple(cell)
    by_state: dict[int, list[Edge]] = {}
    for position, edge in enumerate(cell):
        if not (
            isinstance(edge, Sequence)
            and len(edge) == 3
            and isinstance(edge[0], str)
            and type(edge[1]) is int
            and type(edge[2]) is int
            and 2 <= edge[1] < 1000
        ):
            raise ConfigError(
                f"Genotype: {name}[{position}] is {edge!r}; it must be a triple such as"
                " ('sep_conv_3x3', 2, 0): primitive, state of the node (from 2), source."
            )
        by_state.setdefault(edge[1], []).append(Edge(edge[0], edge[2]))
    states = [state for state in concat if type(state) is int] if _is_list(concat) else []
    last = max([*by_state, *states])
    return tuple(tuple(by_state.get(state, ())) for state in range(2, min(last, 1000) + 1))


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal, or of `range(a, b)` with literal bounds."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("range", "list", "tuple")
        and not node.keywords
    ):
        values = [_literal(argument) for argument in node.args]
        if node.func.id != "range" and len(values) == 1:
            return values[0]
        if (
            node.func.id == "range"
            and 1 <= len(values) <= 3
            and all(type(bound) is int and abs(bound) < 1000 for bound in values)
            and 0 not in values[2:]
        ):
            return list(range(*values))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ConfigError(
            f"Genotype text holds something that is no literal: {ast.unparse(node)[:80]}."
        ) from error
