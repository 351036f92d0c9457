"""Operations of the user's own: the modules that register them are imported before a build."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from darts_ray.errors import ConfigError


def import_extensions(modules: Iterable[str], place: str) -> None:
    """Import modules for what they register.

    Args:
        modules: dotted names.
        place: where the configuration names them, for the error message.

    Raises:
        ConfigError: one cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(
                f"{place}: the module {module!r} cannot be imported ({error}); install it, or add"
                " its folder to PYTHONPATH on every node."
            ) from error
        except Exception as error:  # whatever a user's module may raise
            raise ConfigError(
                f"{place}: the module {module!r} fails on import"
                f" ({type(error).__name__}: {error}); correct it."
            ) from error
