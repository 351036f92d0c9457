"""A trial's values as Tune hands them over, and the model they make."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from darts_ray.config.reading.messages import explain
from darts_ray.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def parse_config(model: type[ConfigT], values: dict[str, Any]) -> ConfigT:
    """Validate a trial's values, with relative paths taken from where the driver was started.

    Raises:
        ConfigError: a key is unknown (with the nearest valid one) or a value is wrong.
    """
    try:
        return model.model_validate(resolve_values(values))
    except ValidationError as error:
        raise ConfigError(explain(error, model)) from error


def resolve_values(values: dict[str, Any]) -> dict[str, Any]:
    """Return a trial's values as plain Python with absolute paths, fit for JSON."""
    # why: Tune adds keys of its own, such as the Repeater's __trial_index__
    ours = {key: value for key, value in values.items() if not key.startswith("__")}
    return _with_absolute_paths(plain(ours))


def plain(value: Any) -> Any:
    """Turn NumPy scalars, which Tune's samplers draw, into Python's."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if hasattr(value, "dtype") else value


def _with_absolute_paths(values: dict[str, Any]) -> dict[str, Any]:
    data = values.get("data")
    if not isinstance(data, dict):
        return values
    # why: Ray moves each trial into its own directory and notes here where it was before
    origin = Path(os.environ.get("TUNE_ORIG_WORKING_DIR") or Path.cwd())
    absolute = {
        key: str(origin / Path(data[key]).expanduser())
        for key in ("path", "cache_dir")
        if isinstance(data.get(key), str)
    }
    return {**values, "data": {**data, **absolute}}
