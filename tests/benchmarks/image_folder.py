"""Images per second of the training loader on ImageNet-sized JPEGs, against torchvision's.

Run `python -m tests.benchmarks.image_folder --images 2000 --workers 1` on a machine that does
nothing else. Both read the same generated files (500 x 375 pixels, about 110 kB), crop and mirror
them at random to 224 x 224 and normalise; torchvision's side is the usual `ImageFolder` with
`DataLoader`. The first pass warms the disk cache and the processes and is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from darts_ray.config import AugmentConfig, DataConfig
from darts_ray.data import ImageStream, open_images

SIZE = (500, 375)
NUM_CLASSES = 10
SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write_images(root: Path, num: int) -> float:
    """Write JPEGs with detail at all scales, as photographs have; return their mean size."""
    draw = np.random.default_rng(0)
    total = 0
    for number in range(num):
        layers = np.zeros((SIZE[1], SIZE[0], 3), dtype=np.float32)
        for side, strength in ((4, 50), (16, 30), (64, 20), (256, 14)):
            noise = draw.normal(0, strength, (side, side, 3)).astype(np.float32)
            for channel in range(3):
                plane = Image.fromarray(noise[..., channel]).resize(SIZE, Image.Resampling.BICUBIC)
                layers[..., channel] += np.asarray(plane)
        layers += draw.normal(0, 6, layers.shape)
        file = root / "train" / f"class-{number % NUM_CLASSES}" / f"{number:06}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = np.clip(layers + 128, 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(file, quality=90)
        total += file.stat().st_size
    return total / num


def theirs(root: Path, batch: int, workers: int) -> Callable[[], Iterable[object]]:
    """Return what makes one pass of torchvision's loader."""
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIDE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader: DataLoader[object] = DataLoader(
        ImageFolder(str(root / "train"), transform),
        batch_size=batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda: loader


def ours(root: Path, batch: int, workers: int) -> Callable[[], Iterable[object]]:
    """Return what makes one pass of a training stream."""
    config = DataConfig(
        source="image_folder",
        path=str(root),
        cache_dir=str(root / "cache"),
        image_size=SIDE,
        mean=MEAN,
        std=STD,
        workers=workers,
    )
    data = open_images(config)
    stream = ImageStream(
        data.train,
        torch.arange(len(data.train)),
        batch,
        info=data.info,
        augment=AugmentConfig(random_resized_crop=True),
        seed=0,
        device=torch.device("cpu"),
    )
    return stream.epoch


def images_per_second(epoch: Callable[[], Iterable[object]], num: int, passes: int) -> float:
    """Return the speed of the fastest pass."""
    times = []
    for _ in range(passes + 1):
        started = time.perf_counter()
        for _batch in epoch():
            pass
        times.append(time.perf_counter() - started)
    return num / min(times[1:])


def main() -> None:
    """Measure and print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--passes", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = write_images(root, arguments.images)
        print(f"{arguments.images} JPEGs of {size / 1000:.0f} kB, {arguments.workers} workers")
        speeds = {}
        for name, make in (("torchvision", theirs), ("darts_ray", ours)):
            epoch = make(root, arguments.batch, arguments.workers)
            speeds[name] = images_per_second(epoch, arguments.images, arguments.passes)
            print(f"{name}: {speeds[name]:.0f} images/s")
        print(f"ratio: {speeds['darts_ray'] / speeds['torchvision']:.2f}")


if __name__ == "__main__":
    main()
