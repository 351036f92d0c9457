"""Pages that a command writes to a file of the user's choice."""

from __future__ import annotations

from pathlib import Path

from darts_ray.errors import ConfigError


def check_page(output: Path | None) -> None:
    """Refuse a file that is no page, before anything that takes long.

    Raises:
        ConfigError: its name does not end with .html, or its folder does not exist.
    """
    if output is None:
        return
    if output.suffix not in (".html", ".htm"):
        raise ConfigError(f"--output {output}: is a page; name a file that ends with .html.")
    if not output.resolve().parent.is_dir():
        raise ConfigError(
            f"--output {output}: cannot be written: there is no folder {output.parent}. Make it,"
            " or name a file in a folder that exists."
        )


def write_page(output: Path, html: str) -> None:
    """Write a page.

    Raises:
        ConfigError: the system refuses.
    """
    try:
        output.write_text(html, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--output {output}: cannot be written: {error.strerror or error}. Name another file."
        ) from error
