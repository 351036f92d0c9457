"""CPython's own help text: 65,000 words of technical English that need no download.

The text differs a little between Python versions, and with it the vocabulary.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pydoc_data.topics import topics

from darts_ray.data.text.words import EOS, UNKNOWN, TextPart

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+|[.,;:?!()]")
_BLOCK = 20  # paragraphs that stay together, so that every part reads as connected text
_PARTS: tuple[TextPart, ...] = ("train",) * 8 + ("valid", "test")
_MIN_COUNT = 3  # rarer words become UNKNOWN, as in WikiText


def english_words(part: TextPart) -> list[str]:
    """Return lower-case words and marks; a paragraph ends with EOS.

    Of ten blocks of paragraphs eight are for training, one validates, one tests. Words that the
    training part holds less than three times are UNKNOWN everywhere.
    """
    count = Counter(_words("train"))
    return [word if count[word] >= _MIN_COUNT else UNKNOWN for word in _words(part)]


def _words(part: TextPart) -> Iterator[str]:
    text = "\n\n".join(topics[name] for name in sorted(topics)).lower()
    found = (tuple(WORD.findall(paragraph)) for paragraph in re.split(r"\n\s*\n", text))
    # Topics share whole sections; each paragraph counts once, or training would hold test text.
    paragraphs = [words for words in dict.fromkeys(found) if words]
    for number, words in enumerate(paragraphs):
        if _PARTS[number // _BLOCK % len(_PARTS)] == part:
            yield from (*words, EOS)
