"""When a user's function may take a name that is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def may_replace(present: Callable[..., Any], new: Callable[..., Any]) -> bool:
    """Whether `new` may stand where `present` does: if that is itself or an older definition.

    An older definition has the same name and module; a notebook's cell that is run again makes
    one. Functions without a name of their own are never the same.
    """
    if present is new:
        return True
    names = [(f.__module__, getattr(f, "__qualname__", None)) for f in (present, new)]
    return names[0] == names[1] and names[0][1] is not None and "<lambda>" not in names[0][1]
