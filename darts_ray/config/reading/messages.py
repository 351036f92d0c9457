"""Turns pydantic's validation errors into messages with the place and the remedy."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from darts_ray.location import redact


def explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """Return one line per problem: dotted place, what is wrong, nearest valid key.

    Args:
        error: what pydantic raised.
        model: the model that was being built; its fields give the suggestions.
        prefix: dotted place of that model in the user's file.
    """
    lines = []
    for problem in error.errors():
        parts = _place(model, problem["loc"])
        place = ".".join([prefix, *parts] if prefix else parts) or "configuration"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{place}: unknown key.{_suggestion(model, parts)}")
        elif problem["type"] == "missing":
            lines.append(f"{place}: is required.")
        elif problem["type"] in ("tuple_type", "list_type"):
            given = problem["input"]
            example = [given] if isinstance(given, int | float | str) else [0, 1, 2]
            shown = f" (given: {given!r})" if isinstance(given, int | float | str) else ""
            lines.append(
                f"{place}: must be a list, such as {json.dumps(example)}"
                f"{' or [0, 1, 2]' if isinstance(given, int) else ''}{shown}."
            )
        else:
            message = problem["msg"].removeprefix("Value error, ")
            given = problem["input"]
            shown = f" (given: {given!r})" if isinstance(given, str | int | float) else ""
            lines.append(f"{place}: {message}{shown}.")
    return redact("\n".join(dict.fromkeys(lines)))


def _place(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Drop union tags (such as `conv` or `constrained-str`) from pydantic's location."""
    parts: list[str] = []
    candidates: list[type[BaseModel]] = [model]
    for item in loc:
        if isinstance(item, int):
            parts.append(str(item))
            continue
        fields = [found for found in candidates if item in found.model_fields]
        if fields:
            parts.append(item)
            candidates = [
                nested
                for found in fields
                for nested in _models(found.model_fields[item].annotation)
            ]
        elif item == loc[-1] and candidates:
            parts.append(item)
    return parts


def _suggestion(model: type[BaseModel], parts: list[str]) -> str:
    candidates: list[type[BaseModel]] = [model]
    for part in parts[:-1]:
        candidates = [
            nested
            for found in candidates
            if part in found.model_fields
            for nested in _models(found.model_fields[part].annotation)
        ]
    if any(parts[-1] in found.model_fields for found in candidates):
        others = [found for found in candidates if parts[-1] not in found.model_fields]
        keys = sorted({name for found in others for name in found.model_fields})
        return f" It is a key of another kind of {parts[-2]}; this one has: {', '.join(keys)}."
    keys = sorted({name for found in candidates for name in found.model_fields})
    close = difflib.get_close_matches(parts[-1], keys, n=1, cutoff=0.5) if parts else []
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Valid keys: {', '.join(keys)}." if keys else ""


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the pydantic models inside an annotation, through unions and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType) or hasattr(annotation, "__metadata__"):
        for argument in get_args(annotation):
            yield from _models(argument)
