"""`example.png`: a picture to try an exported file on."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from darts_ray.export.consumer.contract import PictureRule
from darts_ray.export.consumer.pictures import Pixels


def example_picture(pixels: Pixels, rule: PictureRule) -> bytes:
    """Return a PNG that a file's rule turns into exactly these pixels.

    Where the rule cuts out the centre, the picture has a mirrored margin for it to cut off.

    Args:
        pixels: uint8 (channels, height, width), as the network sees them.
        rule: of the file.
    """
    if rule.resize == "centre_crop" and rule.shorter_side is not None:
        margin = rule.shorter_side - pixels.shape[1]
        around = (margin // 2, margin - margin // 2)
        pixels = np.pad(pixels, ((0, 0), around, around), mode="symmetric")
    image = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, "PNG")
    return sink.getvalue()
