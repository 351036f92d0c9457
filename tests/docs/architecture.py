"""Writes the package's tree into docs/architecture.md, from the docstrings of its rooms.

python -m tests.docs.architecture
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.blocks import REPOSITORY

PAGE = REPOSITORY / "docs" / "architecture.md"
PACKAGE = REPOSITORY / "darts_ray"
WIDTH = 20


def tree() -> str:
    """Return the rooms, two levels deep, with the first line of each docstring."""
    lines = ["darts_ray/"]
    for room in _rooms(PACKAGE):
        lines.append(_line(room, "  "))
        lines += [_line(inner, "    ") for inner in _rooms(room)]
    return "".join(f"{line}\n" for line in lines)


def page() -> str:
    """Return the page with the present tree in it."""
    text = PAGE.read_text(encoding="utf-8")
    return re.sub(
        r"(```text\n)darts_ray/\n.*?(```)", lambda m: m[1] + tree() + m[2], text, flags=re.S
    )


def _rooms(folder: Path) -> Iterator[Path]:
    return (path.parent for path in sorted(folder.glob("*/__init__.py")))


def _line(room: Path, indent: str) -> str:
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    first = (docstring or "").splitlines()[0].rstrip(".")
    return f"{indent}{room.name}/".ljust(WIDTH) + first


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
