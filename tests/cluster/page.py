"""The commands that docs/cluster.md gives for a cluster."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def page_command(start: str) -> list[str]:
    """Return the words of the page's command that begins with `start`."""
    text = (REPOSITORY / "docs" / "cluster.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [line for line in lines if line.startswith(start)]
    assert len(found) == 1, (start, found)
    return shlex.split(found[0], comments=True)
