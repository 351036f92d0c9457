"""An image network behind `mlflow models serve`: pictures in JSON in, labels out.

`serving_code` copies this room under another package name, so that a serving machine needs
onnxruntime, numpy and Pillow, and no darts_ray.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from darts_ray.errors import PredictionError
from darts_ray.export.consumer.images import OnnxNetwork
from darts_ray.export.consumer.pictures import Picture

PACKAGE = "darts_onnx"
LOADER = f"{PACKAGE}.served"
_MODULES = ("__init__", "contract", "session", "pictures", "images", "served")
_TOP = 5


class ServedNetwork:
    """What `mlflow.pyfunc.load_model` gives.

    Args:
        path: the ONNX file.
    """

    def __init__(self, path: Path) -> None:
        self._network = OnnxNetwork(path)

    def predict(self, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        """Classify pictures.

        Args:
            model_input: a table or mapping with the column `image`; each is a PNG or JPEG file
                in base64, or its bytes (height, width[, channels]) as nested lists of 0..255.
            params: none are known.

        Returns:
            One mapping per picture: `label`, `probability`, and `top`, the likeliest five.
        """
        pictures = [_decode(value) for value in model_input["image"]]
        return [answer(best) for best in self._network.classify(pictures, top=_TOP)]


def answer(best: Sequence[Any]) -> dict[str, Any]:
    """Return a picture's predictions, the best first, as JSON has them."""
    top = [{"label": item.label, "probability": item.probability} for item in best]
    return {**top[0], "top": top}


def decode_base64(text: str) -> bytes:
    """Return the content of a picture file that was sent as text.

    Raises:
        PredictionError: it is not base64.
    """
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise PredictionError(f"A picture is not valid base64: {error}.") from error


def _decode(value: Any) -> Picture:
    if isinstance(value, str):
        return decode_base64(value)
    if isinstance(value, bytes):
        return value
    try:
        array = np.asarray(value)
        if array.dtype == object:  # rows that arrived as separate arrays
            array = np.array(value.tolist() if hasattr(value, "tolist") else value)
    except ValueError as error:
        raise PredictionError(f"A picture's rows differ in length: {error}.") from error
    is_number = np.issubdtype(array.dtype, np.number)
    if not is_number or array.size == 0 or array.min() < 0 or array.max() > 255:
        raise PredictionError("A picture given as numbers must hold bytes, 0..255.")
    if not np.array_equal(array, np.rint(array)):
        raise PredictionError(
            "A picture given as numbers must hold whole bytes 0..255, not fractions."
        )
    return array.astype(np.uint8)


def serving_code() -> dict[str, str]:
    """Return the files of a package that serves a network: path to text."""
    here = Path(__file__).parent
    texts = {f"{name}.py": (here / f"{name}.py").read_text(encoding="utf-8") for name in _MODULES}
    errors = here.parents[1] / "errors.py"
    texts["errors.py"] = errors.read_text(encoding="utf-8")
    return {
        f"{PACKAGE}/{name}": text.replace("darts_ray.export.consumer", PACKAGE).replace(
            "darts_ray.errors", f"{PACKAGE}.errors"
        )
        for name, text in texts.items()
    }


def _load_pyfunc(path: str) -> ServedNetwork:
    """Load the model; mlflow calls it by this name."""
    return ServedNetwork(Path(path))
