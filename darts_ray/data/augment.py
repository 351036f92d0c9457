"""Random changes to images: every sample has its own, drawn on the device from a seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from darts_ray.config import AugmentConfig
from darts_ray.runtime.workers import Rows


def crop_and_flip(
    images: Tensor, padding: int, flip: bool, generator: Generator, rows: Rows | None = None
) -> Tensor:
    """Cut a window of the original size out of the zero-padded image, then mirror half of them.

    As the original code, the padding is black: zero before normalisation.

    Args:
        images: (batch, channels, height, width).
        padding: pixels on each side; offsets are uniform on 0..2*padding, both included.
        flip: mirror horizontally with probability 1/2.
        generator: on the device of `images`.
        rows: which images of a larger batch these are; None: all of them.

    Returns:
        (batch, channels, height, width).
    """
    batch, channels, height, width = images.shape
    num, held = rows or Rows(batch, slice(None))
    device = images.device
    ys = torch.arange(height, device=device).expand(batch, -1)
    xs = torch.arange(width, device=device).expand(batch, -1)
    if padding:
        offsets = torch.randint(2 * padding + 1, (2, num, 1), generator=generator, device=device)
        offsets = offsets[:, held]
        images = F.pad(images, (padding, padding, padding, padding))
        ys, xs = ys + offsets[0], xs + offsets[1]
    if flip:
        mirrored = (torch.rand(num, 1, generator=generator, device=device) < 0.5)[held]
        xs = torch.where(mirrored, xs.flip(1), xs)
    # One gather over flattened pixels: pixel (row, column) is number row * padded width + column.
    pixels = ys[:, :, None] * images.shape[3] + xs[:, None, :]
    pixels = pixels.reshape(batch, 1, height * width).expand(-1, channels, -1)
    return images.flatten(2).gather(2, pixels).view(batch, channels, height, width)


def cutout_(
    images: Tensor,
    side: int,
    generator: Generator,
    probability: float = 1.0,
    rows: Rows | None = None,
) -> Tensor:
    """Set a square of each image to zero, in place; apply it to normalised images.

    The centre is uniform over the pixels, so a square near the border is clipped, as in DeVries &
    Taylor (arXiv 1708.04552) and the original code. For an odd `side` the original erased one
    pixel less than asked; here the square has the side it says.

    Args:
        images: (batch, channels, height, width).
        side: in pixels.
        generator: on the device of `images`.
        probability: with which an image is changed at all.
        rows: which images of a larger batch these are; None: all of them.
    """
    batch, _, height, width = images.shape
    num, held = rows or Rows(batch, slice(None))
    inside = []
    for size in (height, width):
        centre = torch.randint(size, (num, 1), generator=generator, device=images.device)[held]
        first = centre - side // 2
        pixel = torch.arange(size, device=images.device)
        inside.append((pixel >= first) & (pixel < first + side))
    erased = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    if probability < 1:
        chosen = torch.rand(num, 1, 1, 1, generator=generator, device=images.device)
        erased = erased & (chosen[held] < probability)
    return images.masked_fill_(erased, 0)


class Normalise:
    """Map uint8 pixels p to (p / 255 - mean) / std per channel.

    Args:
        mean: per channel, for pixels in 0..1.
        std: as `mean`.
        device: where the images are.
        dtype: of the result; the arithmetic is float32 or better.
        channels_last: memory layout of the result.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> None:
        self._dtype = dtype
        self._exact = torch.float64 if dtype == torch.float64 else torch.float32
        self._mean = torch.tensor(mean, dtype=self._exact, device=device)[:, None, None]
        self._std = torch.tensor(std, dtype=self._exact, device=device)[:, None, None]
        self._layout = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise (batch, channels, height, width)."""
        images = images.to(self._exact, memory_format=self._layout).div_(255)
        return images.sub_(self._mean).div_(self._std).to(self._dtype)


class ImageNetTransform:
    """What is done image by image before batches are made: ImageNet's crop and colours.

    torchvision's own transforms draw once per call, so they are called once per image.

    Args:
        augment: the crop of 8 % to 100 % of the area, the colour jitter, or both.
        image_size: (height, width) after the crop.
    """

    def __init__(self, augment: AugmentConfig, image_size: tuple[int, int]) -> None:
        from torchvision.transforms import v2  # slow to import, and rarely needed

        self.crops = augment.random_resized_crop
        steps: list[torch.nn.Module] = []
        if self.crops:
            steps.append(v2.RandomResizedCrop(image_size, antialias=True))
        if (jitter := augment.color_jitter) is not None:
            steps.append(
                v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
            )
        self._transform = v2.Compose(steps)

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """Change one uint8 image (channels, height, width); the seed decides how."""
        # torchvision draws from the global CPU generator; it is put back as it was.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            changed: Tensor = self._transform(image)
        return changed


def sample_transform(
    augment: AugmentConfig, image_size: tuple[int, int]
) -> ImageNetTransform | None:
    """Return the transform that the configuration asks for, if any."""
    if augment.random_resized_crop or augment.color_jitter is not None:
        return ImageNetTransform(augment, image_size)
    return None
