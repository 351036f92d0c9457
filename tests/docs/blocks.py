"""The fenced blocks of README and docs, and the marks that say how a test treats them.

A mark is an HTML comment in the line before a block, which no reader of the page sees:

    <!-- not run: REASON -->   needs a cluster, a download or long; it is read, not executed
    <!-- without: COMMAND -->  the block runs without this one of its commands
    <!-- file: NAME -->        what a reader saves as NAME before going on
    <!-- needs: NAME -->       data of `tests.docs.material` that the reader is told to have

Without one, `console`, `python` and `yaml` blocks are executed or loaded; blocks of other
languages, such as `text`, show what is printed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGES = {
    page.relative_to(REPOSITORY).as_posix(): page
    for page in (
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        *sorted((REPOSITORY / "docs").glob("*.md")),
    )
    if page.exists()
}
MARKS = ("not run", "without", "file", "needs")
_MARK = re.compile(r"<!-- ([a-z ]+): (.+) -->")
_FENCE = re.compile(r"^```(\w*)$")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: as in `PAGES`.
        line: of its fence, from 1.
        language: what follows the fence.
        text: its content.
        mark: kind of the comment before it; empty: none.
        argument: of that comment.
    """

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    argument: str = ""

    @property
    def place(self) -> str:
        """Where it stands, for messages and names of tests."""
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a console block: its lines, continued ones joined."""
        joined = self.text.replace("\\\n", " ").replace(" && ", "\n")
        lines = (line.strip() for line in joined.splitlines())
        return [line for line in lines if line and not line.startswith("#")]


def blocks_of(page: str) -> Iterator[Block]:
    """Yield a page's blocks in their order.

    Raises:
        ValueError: a mark is none of `MARKS` or belongs to no block, or a fence is not closed.
    """
    mark, argument = "", ""
    opened: tuple[int, str] | None = None
    content: list[str] = []
    for number, line in enumerate(PAGES[page].read_text(encoding="utf-8").splitlines(), 1):
        if opened is not None:
            if line == "```":
                text = "".join(f"{part}\n" for part in content)
                yield Block(page, opened[0], opened[1], text, mark, argument)
                opened, content, mark, argument = None, [], "", ""
            else:
                content.append(line)
            continue
        if fence := _FENCE.match(line):
            opened = number, fence[1]
        elif mark and line:
            raise ValueError(f"{page}:{number}: a block has to follow the mark {mark!r}")
        elif (comment := _MARK.fullmatch(line)) and comment[1] in MARKS:
            mark, argument = comment[1], comment[2]
        elif line.startswith("<!--"):
            raise ValueError(f"{page}:{number}: no such mark; there are: {', '.join(MARKS)}")
    if opened is not None:
        raise ValueError(f"{page}:{opened[0]}: the block has no end")


def darts_ray_words(command: str) -> list[str] | None:
    """Return the words after `darts-ray`; None for another command."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    return words[1:] if words and words[0] == "darts-ray" else None
