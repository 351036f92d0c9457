"""What to type next, in the words of this platform."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence


def opening(place: str, platform: str = sys.platform) -> str:
    """Return how a page is looked at.

    Args:
        place: an absolute path or a URI; what lies in an object store has to be fetched first.
        platform: as `sys.platform`.
    """
    if "://" in place:
        return f"fetch {place} and open it in a browser"
    if platform == "win32":
        return f'start "" "{place}"'  # the first of two quoted words would be the window's title
    opener = "open" if platform == "darwin" else "xdg-open"  # which Linux and BSD desktops have
    return f"{opener} {shlex.quote(place)}"


def command(words: Sequence[str], overrides: Sequence[str] | None = None) -> str:
    """Return a line of this program's that a shell understands."""
    sets = [word for override in overrides or () for word in ("--set", override)]
    return shlex.join(["darts-ray", *words, *sets])
