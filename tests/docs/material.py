"""Data that the tutorials ask the reader to have, generated."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from darts_ray.export import ModelMetadata, PictureRule, export_onnx
from darts_ray.nn import ConvNetwork
from darts_ray.space import zoo

_GOLDEN = Path(__file__).parents[1] / "study" / "golden"
CLASSES = {"circles": 0, "squares": 1, "stripes": 2}


def images(folder: Path) -> None:
    """Write `photos/{train,val}/CLASS/*.png`: 32x32 RGB shapes of random colour and place."""
    for part, number in (("train", 40), ("val", 10)):
        draw = np.random.default_rng(len(part))
        for name, shape in CLASSES.items():
            target = folder / "photos" / part / name
            target.mkdir(parents=True)
            for index in range(number):
                Image.fromarray(_picture(draw, shape)).save(target / f"{index:03}.png")


def _picture(draw: np.random.Generator, shape: int) -> np.ndarray:
    y, x = np.mgrid[:32, :32]
    row, column, size = draw.integers(10, 22), draw.integers(10, 22), draw.integers(5, 9)
    inside = (
        (y - row) ** 2 + (x - column) ** 2 <= size**2,
        (abs(y - row) <= size) & (abs(x - column) <= size),
        (y // 3) % 2 == 0,
    )[shape]
    picture = draw.integers(0, 60, (32, 32, 3))
    picture[inside] += draw.integers(90, 190, 3)
    return picture.astype(np.uint8)


def texts(folder: Path) -> None:
    """Write `stories/{train,valid,test}.txt`: sentences of a small grammar."""
    target = folder / "stories"
    target.mkdir()
    draw = np.random.default_rng(0)
    who, does, what = ("the cat", "a dog", "my aunt"), ("sees", "likes"), ("the sea", "a tree")
    for part, number in (("train", 4000), ("valid", 400), ("test", 400)):
        lines = (
            " ".join(str(draw.choice(words)) for words in (who, does, what)) for _ in range(number)
        )
        (target / f"{part}.txt").write_text("".join(f"{line} .\n" for line in lines))


def exported(folder: Path) -> None:
    """Write `best.onnx` of an untrained network for the shapes, and `picture.png`."""
    torch.manual_seed(0)
    genotype = zoo["DARTS_V2"]
    metadata = ModelMetadata(
        genotype.to_json(),
        tuple(CLASSES),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        pictures=PictureRule((32, 32), "stretch", converts_color=True),
    )
    network = ConvNetwork(genotype, 4, len(CLASSES), 2, auxiliary=False)
    export_onnx(network, folder / "best.onnx", example_size=(3, 32, 32), metadata=metadata)
    pixels = _picture(np.random.default_rng(0), 0)
    Image.fromarray(pixels).resize((50, 40)).save(folder / "picture.png")


def study(folder: Path) -> None:
    """Put a finished study where the page's own would be."""
    shutil.copytree(_GOLDEN / "format-1", folder / "runs" / "which-method")


MATERIAL = {"photos": images, "stories": texts, "exported": exported, "study": study}
"""By the name that a `needs` mark gives."""
