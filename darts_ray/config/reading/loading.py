"""YAML files and `--set a.b=c` into models, and models back into YAML."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from darts_ray.config.data import DataConfig
from darts_ray.config.reading.messages import explain
from darts_ray.config.study import StudyConfig
from darts_ray.encoding import NotTextError, decode_text
from darts_ray.errors import ConfigError


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> StudyConfig:
    """Read a study from a YAML file.

    Args:
        path: the file.
        overrides: `a.b=c` texts, applied in order; the value is read as YAML, in which a `#`
            begins no comment.

    Raises:
        ConfigError: the file is missing or does not parse (with the line), a key is unknown
            (with the nearest valid one), or a value has the wrong type or range.
    """
    values, file = _read_values(path, overrides)
    return build_config(values, file)


def load_dataset(path: str | Path, overrides: Iterable[str] = ()) -> StudyConfig | DataConfig:
    """Read which data a YAML file names: a study, or a file that has a section `data` alone.

    Args:
        path: the file.
        overrides: as in `load_config`.

    Raises:
        ConfigError: as `load_config`.
    """
    values, file = _read_values(path, overrides)
    if set(values) != {"data"}:
        return build_config(values, file)
    try:
        return DataConfig.model_validate(values["data"])
    except ValidationError as error:
        raise ConfigError(f"{file}:\n{explain(error, DataConfig, 'data')}") from error
    except ConfigError as error:
        raise ConfigError(f"{file}:\n{error}") from error


def _read_values(path: str | Path, overrides: Iterable[str]) -> tuple[dict[str, Any], str]:
    file = Path(path)
    try:
        text = decode_text(file.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror or error}. Name a YAML file; `darts-ray"
            " init` lists configurations to begin with."
        ) from error
    except NotTextError as error:
        raise ConfigError(f"{file}: {error}.") from error
    values = parse_yaml(text, str(file))
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: must hold keys and values such as 'name: my-study'.")
    for override in overrides:
        apply_override(values, override)
    return values, str(file)


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
    """Parse YAML; aliases (`*name`) and merge keys (`<<: *name`) become independent copies.

    Raises:
        ConfigError: the text is not YAML, holds a duplicate key or an unreadable scalar; the
            message names the line.
    """
    try:
        return _independent(yaml.load(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        tabs = "'\\t'" in (error.problem or "")
        remedy = " YAML knows no tabs: indent with blanks." if tabs else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {error.problem}.{remedy}") from error
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
    target[keys[-1]] = _parse_value(text, f"--set {override}")


def to_yaml(config: BaseModel) -> str:
    """Return the resolved configuration as YAML that `load_config` reads back unchanged."""
    values = config.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _parse_value(text: str, source: str) -> Any:
    """Parse one value of the command line, where nobody writes comments.

    YAML would cut `runs #1` at the `#`; here it is a text.

    Raises:
        ConfigError: the text is not YAML, or a `#` follows something else than plain text.
    """
    value = parse_yaml(text, source)
    end = _end_of_content(text)
    if not text[end:].lstrip().startswith("#"):
        return value
    if text.lstrip()[:1] in ("[", "{", '"', "'"):
        raise ConfigError(
            f"{source}: what follows the value, {text[end:].strip()!r}, would be lost; leave it"
            " out or put the whole value in quotes."
        )
    return text.strip()


def _end_of_content(text: str) -> int:
    """Return the position behind the last token of a YAML text; only comments come after it."""
    markers = (yaml.StreamStartToken, yaml.StreamEndToken, yaml.BlockEndToken)
    tokens = yaml.scan(text, Loader=_Loader)
    ends = (token.end_mark.index for token in tokens if not isinstance(token, markers))
    return max(ends, default=0)


def _independent(value: Any) -> Any:
    """Copy what aliases share, so that a later `--set` changes one place only."""
    if isinstance(value, dict):
        return {key: _independent(item) for key, item in value.items()}
    return [_independent(item) for item in value] if isinstance(value, list) else value


class _Loader(yaml.SafeLoader):
    """A SafeLoader to which a key given twice is an error and not a silent overwrite."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping and look for repeated keys, before merge keys add theirs."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag not in _KEY_TAGS:
                shown = key.value if isinstance(key, yaml.ScalarNode) else "of several values"
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {shown} is not text", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put what merge keys (`<<`) name in front of a mapping's own keys.

        As YAML defines it: own keys win, then the earlier of several mappings. PyYAML's own
        method lets the later one win.
        """
        own = {key.value: (key, value) for key, value in node.value if key.tag != _MERGE}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(source, yaml.MappingNode):
                    raise yaml.constructor.ConstructorError(
                        None, None, "<< takes one section or a list of sections", value.start_mark
                    )
                self.flatten_mapping(source)
                for pair in source.value:
                    merged.setdefault(pair[0].value, pair)
        node.value = list((merged | own).values())


_MERGE = "tag:yaml.org,2002:merge"
_KEY_TAGS = ("tag:yaml.org,2002:str", _MERGE)
