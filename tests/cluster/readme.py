"""The commands that the README gives for a cluster."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def readme_command(start: str) -> list[str]:
    """Return the words of the README's command that begins with `start`."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [line for line in lines if line.startswith(start)]
    assert len(found) == 1, (start, found)
    return shlex.split(found[0], comments=True)
