"""The axes of a study as Tune search spaces, and the schedulers and searchers that use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from darts_ray.config import Axis


def axes_to_domains(axes: Mapping[str, Axis]) -> dict[str, Any]:
    """Return a Tune domain per axis, by dotted name, such as `{"optim.xi": loguniform(...)}`."""
    raise NotImplementedError
