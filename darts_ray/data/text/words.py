"""Texts as token numbers: words and an end mark per line, as the field's PTB and WikiText-2."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from darts_ray.data.dataset import TextData, TextInfo
from darts_ray.encoding import NotTextError, decode_text, recognise
from darts_ray.errors import DataError

TextPart = Literal["train", "valid", "test"]
EOS = "<eos>"
UNKNOWN = "<unk>"


def read_words(folder: Path, part: TextPart) -> list[str]:
    """Read train.txt, valid.txt or test.txt: words between blanks, EOS after every line.

    Raises:
        DataError: the file is missing or empty, or its encoding is not told by the file itself.
    """
    file = folder / f"{part}.txt"
    try:
        content = file.read_bytes()
        if content and (kind := recognise(content[:512])):
            raise DataError(f"{file}: is {kind}.")
        text = decode_text(content)
    except NotTextError as error:
        raise DataError(f"{file}: {error}.") from error
    except OSError as error:
        raise DataError(
            f"{file}: cannot be read: {error.strerror or error}. data.path must name a folder "
            "with train.txt, valid.txt and test.txt."
        ) from error
    words = [word for line in text.removesuffix("\n").split("\n") for word in (*line.split(), EOS)]
    if all(word == EOS for word in words):
        raise DataError(f"{file}: holds no words.")
    return words


def build_text_data(
    read: Callable[[TextPart], list[str]], max_train: int | None, max_test: int | None
) -> TextData:
    """Number the words of a text.

    The vocabulary is that of the training and validation parts, in order of appearance. The
    original code also put the test words in; that would open the test file during a search. For
    PTB and WikiText-2 it makes no difference: their test words all occur in training.

    Args:
        read: gives the words of a part.
        max_train: keep only so many training tokens; the vocabulary stays that of the whole.
        max_test: as `max_train`.

    Raises:
        DataError: from `read`.
    """
    train, valid = read("train"), read("valid")
    vocabulary = tuple(dict.fromkeys((*train, *valid)))
    numbers = {word: number for number, word in enumerate(vocabulary)}
    digest = hashlib.blake2b("\n".join((*train, "", *valid)).encode(), digest_size=16)
    train_tokens = torch.tensor([numbers[word] for word in train[:max_train]])
    valid_tokens = torch.tensor([numbers[word] for word in valid])
    info = TextInfo(
        vocab_size=len(vocabulary),
        vocabulary=vocabulary,
        num_train=len(train_tokens),
        num_valid=len(valid_tokens),
        fingerprint=digest.hexdigest(),
    )
    return TextData(
        info, train_tokens, valid_tokens, lambda: _encode_test(read("test")[:max_test], numbers)
    )


def _encode_test(words: list[str], numbers: dict[str, int]) -> Tensor:
    """Number test words; one that training never saw counts as UNKNOWN, if there is such a word.

    Raises:
        DataError: there is none.
    """
    unknown = numbers.get(UNKNOWN)
    if unknown is None:
        for position, word in enumerate(words):
            if word not in numbers:
                raise DataError(
                    f"Word {position} of the test text, {word!r}, is in neither the training nor "
                    f"the validation text, and the vocabulary has no {UNKNOWN} to stand for it: "
                    f"replace rare words by {UNKNOWN} in all three files."
                )
    return torch.tensor([numbers.get(word, unknown) for word in words])
