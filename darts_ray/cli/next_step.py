"""What to type next, in the words of this platform."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence

from darts_ray.cli.printing import message, progress


def announce(*steps: str, aside: bool = False) -> None:
    """Print what to type next, as the last lines of a command.

    A command with `--json` (or another form for scripts) announces nothing.

    Args:
        steps: each a line.
        aside: to standard error, after a command whose standard output is nothing but values.
    """
    for step in steps:
        (progress if aside else message)(f"Next: {step}")


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


def trying(onnx: str, example: str, platform: str = sys.platform) -> str:
    """Return how an exported network is tried on a picture.

    Args:
        onnx: path or URI of the file.
        example: path or URI of the picture, in the same folder.
        platform: as `sys.platform`.
    """
    words = ["predict", onnx, example]
    if "://" not in onnx:
        return command(words, platform=platform)
    names = [place.rpartition("/")[2] for place in (onnx, example)]
    return f"fetch {onnx} and {example}, then {command(['predict', *names], platform=platform)}"


def command(
    words: Sequence[str], overrides: Sequence[str] | None = None, platform: str = sys.platform
) -> str:
    """Return a line of this program's that the platform's shell understands."""
    sets = [word for override in overrides or () for word in ("--set", override)]
    join = subprocess.list2cmdline if platform == "win32" else shlex.join
    return join(["darts-ray", *words, *sets])
