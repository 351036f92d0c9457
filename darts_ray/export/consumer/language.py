"""Use an exported language model: the perplexity of a text, and the words that come next."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from darts_ray.errors import PredictionError
from darts_ray.export.consumer.contract import ModelMetadata, TextRule
from darts_ray.export.consumer.images import Prediction
from darts_ray.export.consumer.session import open_session, read_metadata

_WINDOW = 128  # tokens per run; the state is carried, so it changes no number

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TextScore:
    """How well a model predicts a text.

    Attributes:
        perplexity: the exponential of the mean loss in nats per predicted token.
        num_tokens: words and end marks, the first of which nothing predicts.
        num_unknown: words that the vocabulary lacks.
        next_words: the likeliest words after the text, the best first.
    """

    perplexity: float
    num_tokens: int
    num_unknown: int
    next_words: tuple[Prediction, ...]


class OnnxLanguageModel:
    """An exported language model in onnxruntime, on the CPU; without torch.

    Args:
        path: the ONNX file.
        num_threads: of one run; None: onnxruntime's choice.

    Raises:
        PredictionError: the file is missing, not valid ONNX, not exported by darts_ray, or no
            language model.
    """

    def __init__(self, path: str | Path, *, num_threads: int | None = None) -> None:
        self._session = open_session(Path(path), num_threads=num_threads)
        self._metadata = read_metadata(self._session, Path(path))
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        if list(inputs) != ["tokens", "hidden"]:
            raise PredictionError(f"{path} is no language model: its inputs are {list(inputs)}.")
        self._units = int(inputs["hidden"][2])
        length = inputs["tokens"][0]
        self._length = length if isinstance(length, int) else None
        self._numbers = {word: i for i, word in enumerate(self._metadata.class_names)}

    @property
    def metadata(self) -> ModelMetadata:
        """What the file says about itself."""
        return self._metadata

    @property
    def length(self) -> int | None:
        """How many words the file takes per run; None: any number."""
        return self._length

    def initial_state(self, batch: int = 1) -> npt.NDArray[np.float32]:
        """Return the state before a text, (1, batch, units)."""
        return np.zeros((1, batch, self._units), np.float32)

    def run(self, tokens: Tokens, hidden: npt.NDArray[np.float32]) -> tuple[Any, Any]:
        """Map tokens (length, batch) and a state to log probabilities and the next state.

        Raises:
            PredictionError: the file is for texts of another length.
        """
        if self._length not in (None, len(tokens)):
            raise PredictionError(
                f"The file is unrolled and takes {self._length} words per run, not {len(tokens)}:"
                " use best.onnx, or cut and fill up the text."
            )
        log_probs, state = self._session.run(
            ["log_probs", "next_hidden"], {"tokens": tokens, "hidden": hidden}
        )
        return log_probs, state

    def encode(self, text: str) -> Tokens:
        """Return a text's token numbers (length,), by the file's rule.

        Raises:
            PredictionError: a word is not in the vocabulary, which has no mark for unknown words.
        """
        rule = self._metadata.text or TextRule()
        unknown = self._numbers.get(rule.unknown)
        tokens = []
        for position, word in enumerate(_words(text, rule), start=1):
            number = self._numbers.get(word, unknown)
            if number is None:
                raise PredictionError(
                    f"Word {position} of the text, {word!r}, is not in the model's vocabulary of"
                    f" {len(self._numbers)} words, which has no {rule.unknown} to stand for it."
                )
            tokens.append(number)
        return np.array(tokens, np.int64)

    def score(self, text: str, *, top: int = 5) -> TextScore:
        """Return a text's perplexity and the words that are likeliest to come next.

        Raises:
            PredictionError: the text is shorter than two tokens, or has an unknown word.
        """
        tokens = self.encode(text)
        if len(tokens) < 2:
            raise PredictionError(f"A text needs two tokens or more, not {len(tokens)}.")
        hidden = self.initial_state()
        loss = 0.0
        window = self._length or _WINDOW
        for start in range(0, len(tokens), window):
            piece = tokens[start : start + window]
            missing = 0 if self._length is None else window - len(piece)
            # What fills up the last piece comes after all that counts, and changes nothing of it.
            log_probs, hidden = self.run(np.pad(piece, (0, missing))[:, None], hidden)
            log_probs = log_probs[: len(piece)]
            targets = tokens[start + 1 : start + 1 + len(log_probs)]
            loss -= float(log_probs[np.arange(len(targets)), 0, targets].sum(dtype=np.float64))
        last = log_probs[-1, 0]
        names = self._metadata.class_names
        best = tuple(Prediction(names[i], float(np.exp(last[i]))) for i in np.argsort(-last)[:top])
        mean = loss / (len(tokens) - 1)
        unknown = self._numbers.get((self._metadata.text or TextRule()).unknown, -1)
        # exp overflows a float above 709
        perplexity = math.exp(min(mean, 700.0))
        return TextScore(perplexity, len(tokens), int((tokens == unknown).sum()), best)


def _words(text: str, rule: TextRule) -> list[str]:
    """Split a text; an unfinished last unit has no end mark, so that words can follow it."""
    if rule.lowercase:
        text = text.lower()
    finished = text.endswith("\n")
    separator = r"\n" if rule.unit == "line" else r"\n\s*\n"
    units = re.split(separator, text[:-1] if finished else text)
    words: list[str] = []
    for number, unit in enumerate(units):
        found = re.findall(rule.pattern, unit)
        if rule.unit == "paragraph" and not found:
            continue
        words += found
        if finished or number < len(units) - 1:
            words.append(rule.end)
    return words
