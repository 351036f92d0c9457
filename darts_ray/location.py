"""Where files lie: local paths and URIs of object stores, as text."""

from __future__ import annotations

from pathlib import Path


def absolute_location(location: str | Path) -> str:
    """Return a URI unchanged and a path as absolute, with `~` expanded.

    Workers change directory per trial, so nothing relative may leave the driver.
    """
    text = str(location)
    if "://" in text and not text.startswith("file://"):
        return text
    return str(Path(text.removeprefix("file://")).expanduser().resolve())


def child_location(location: str, name: str) -> str:
    """Append a name to a path or to a URI's path, before any `?query` of the URI."""
    base, mark, query = location.partition("?") if "://" in location else (location, "", "")
    return f"{base.rstrip('/')}/{name}{mark}{query}"
