"""From what `search.method` says to a method's values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from darts_ray.config.methods.base import MethodConfig
from darts_ray.config.reading.messages import explain
from darts_ray.errors import ConfigError
from darts_ray.space.user_modules import import_extensions

METHOD_CONFIGS: dict[str, type[MethodConfig]] = {}
"""By name, in the order of the package's list; `darts_ray.search.methods.register` adds more."""


def parse_method(value: object) -> MethodConfig:
    """Return the values of a method given by its name, or by `{name: NAME, ...}`.

    Raises:
        ValueError: there is no such method, or it has no such values.
    """
    if isinstance(value, MethodConfig):
        return value
    values = {"name": value} if isinstance(value, str) else value
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise ValueError("must be a method's name, or {name: NAME, ...}")
    try:
        import_extensions(values.get("imports", ()), "method.imports")
    except ConfigError as error:
        raise ValueError(str(error)) from error
    name = values["name"]
    model = METHOD_CONFIGS.get(name)
    if model is None:
        close = difflib.get_close_matches(name, METHOD_CONFIGS, n=1, cutoff=0.6)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"no method {name!r}; there are: {', '.join(METHOD_CONFIGS)}.{hint}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ValueError(explain(error, model)) from error


class _NameOrValues:
    """The JSON schema: it lists the methods that there are when it is asked for."""

    def __get_pydantic_json_schema__(self, *_: object) -> dict[str, Any]:
        return {
            "anyOf": [
                {"type": "string", "examples": list(METHOD_CONFIGS)},
                {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}},
                },
            ]
        }


AnyMethod: TypeAlias = Annotated[
    SerializeAsAny[MethodConfig], BeforeValidator(parse_method), _NameOrValues()
]
"""A name, or `{name: NAME, ...}` with the method's own values."""
