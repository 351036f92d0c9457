"""What `darts-ray predict` does: many pictures, or texts, through one exported file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from darts_ray.errors import PredictionError
from darts_ray.export.consumer.files import Found, find_pictures
from darts_ray.export.consumer.images import OnnxNetwork
from darts_ray.export.consumer.language import OnnxLanguageModel
from darts_ray.export.consumer.pictures import Pixels, picture_pixels

_BATCH = 32


def predict_pictures(
    network: OnnxNetwork,
    places: Sequence[Path],
    *,
    top: int,
    column: str | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Classify every picture in files, folders and Parquet; nothing is given if one fails.

    Args:
        network: the file.
        places: pictures, folders and Parquet files.
        top: classes per picture.
        column: of the pictures in Parquet.
        on_progress: receives how many pictures are done.

    Returns:
        One mapping per picture: `image`, and `predictions` with `label` and `probability`.

    Raises:
        PredictionError: a place holds no pictures, or a picture does not suit the network.
    """
    results: list[dict[str, Any]] = []
    for found in _batched(find_pictures(places, column=column)):
        batch = np.stack([_pixels(network, item) for item in found])
        for item, best in zip(found, network.classify(batch, top=top), strict=True):
            predictions = [{"label": p.label, "probability": p.probability} for p in best]
            results.append({"image": item.name, "predictions": predictions})
        on_progress(len(results))
    return results


def predict_texts(
    model: OnnxLanguageModel, files: Sequence[Path], *, top: int
) -> list[dict[str, Any]]:
    """Score text files; nothing is given if one fails.

    Returns:
        One mapping per file: `text`, `perplexity`, `num_tokens`, `num_unknown`, `next_words`.

    Raises:
        PredictionError: a file cannot be read, or has words that the model cannot express.
    """
    results = []
    for file in files:
        try:
            score = model.score(_text(file), top=top)
        except PredictionError as error:
            raise PredictionError(f"{file}: {error}") from error
        results.append(
            {
                "text": str(file),
                "perplexity": score.perplexity,
                "num_tokens": score.num_tokens,
                "num_unknown": score.num_unknown,
                "next_words": [
                    {"word": p.label, "probability": p.probability} for p in score.next_words
                ],
            }
        )
    return results


def _pixels(network: OnnxNetwork, found: Found) -> Pixels:
    """Return (channels, height, width) of one picture, with its name in every message."""
    channels, height, width = network.image_size
    return picture_pixels(found.source, network.rule, channels, (height, width), found.name)


def _batched(found: Iterator[Found]) -> Iterator[list[Found]]:
    while batch := list(islice(found, _BATCH)):
        yield batch


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PredictionError(f"byte {error.start} is not UTF-8 text; convert it.") from error
    except OSError as error:
        raise PredictionError(f"cannot be read: {error.strerror}.") from error
