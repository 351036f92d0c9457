"""YAML files and `--set a.b=c` into models, and models back into YAML."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from darts_ray.config.messages import explain
from darts_ray.config.study import StudyConfig
from darts_ray.errors import ConfigError


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> StudyConfig:
    """Read a study from a YAML file.

    Args:
        path: the file.
        overrides: `a.b=c` texts, applied in order; the value is read as YAML.

    Raises:
        ConfigError: the file is missing or does not parse (with the line), a key is unknown
            (with the nearest valid one), or a value has the wrong type or range.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}.") from error
    values = parse_yaml(text, str(file))
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: must hold keys and values such as 'name: my-study'.")
    for override in overrides:
        apply_override(values, override)
    return build_config(values, str(file))


def build_config(values: dict[str, Any], source: str) -> StudyConfig:
    """Validate plain values; `source` names their origin in error messages.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}:\n{explain(error, StudyConfig)}") from error
    except ConfigError as error:
        raise ConfigError(f"{source}:\n{error}") from error


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML.

    Raises:
        ConfigError: the text is not YAML, holds a duplicate key or an unreadable scalar; the
            message names the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {error.problem}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid YAML: {error}.") from error


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one dotted key in place.

    Raises:
        ConfigError: the text is not `a.b=c`, or the path runs through a scalar.
    """
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override}: must look like --set data.path=/some/folder.")
    target = values
    for key in keys[:-1]:
        nested = target.get(key)
        if nested is None:
            nested = target[key] = {}
        if not isinstance(nested, dict):
            raise ConfigError(f"--set {override}: {key!r} is a value, not a section.")
        target = nested
    target[keys[-1]] = parse_yaml(text, f"--set {override}")


def to_yaml(config: BaseModel) -> str:
    """Return the resolved configuration as YAML that `load_config` reads back unchanged."""
    values = config.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """A SafeLoader to which a key given twice is an error and not a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a dict after looking for repeated keys."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is not text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
