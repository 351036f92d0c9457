"""Genotypes from the texts that people have."""

from __future__ import annotations

import ast
from typing import Any

from darts_ray.errors import ConfigError
from darts_ray.space.genotype import Genotype


def read_genotype(text: str) -> Genotype:
    """Read a genotype from JSON or from the original code's printed `Genotype(...)`.

    The text is parsed as a literal and never evaluated; `range(2, 6)` is understood because
    the original code prints it as a concat.

    Raises:
        ConfigError: the text is neither of the two.
    """
    stripped = text.strip()
    if stripped.startswith("{"):
        return Genotype.from_json(stripped)
    try:
        call = ast.parse(stripped, mode="eval").body
    except SyntaxError as error:
        raise ConfigError(f"Genotype text cannot be parsed: {error.msg}.") from error
    is_genotype = (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "Genotype"
        and not call.args
    )
    if not is_genotype:
        raise ConfigError(
            "Genotype text must be JSON or look like Genotype(normal=[...], normal_concat=..."
            ", reduce=[...], reduce_concat=...) or Genotype(recurrent=[...], concat=...)."
        )
    assert isinstance(call, ast.Call)
    fields = {str(item.arg): _literal(item.value) for item in call.keywords}
    kind = "recurrent" if "recurrent" in fields else "conv"
    return Genotype.from_dict({"kind": kind, **fields})


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal, or of `range(a, b)` with literal bounds."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        bounds = [_literal(argument) for argument in node.args]
        if (
            1 <= len(bounds) <= 3
            and all(type(bound) is int and abs(bound) < 1000 for bound in bounds)
            and 0 not in bounds[2:]
        ):
            return list(range(*bounds))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ConfigError(
            f"Genotype text holds something that is no literal: {ast.unparse(node)[:80]}."
        ) from error
