"""What an opened dataset is: its description, its training part, and a closed door to its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from darts_ray.errors import DataError
from darts_ray.runtime.workers import ALONE, Workers

# Turns one uint8 image (C, H, W) into another, all randomness drawn from the given seed.
SampleTransform = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class ImageInfo:
    """What a network and a normalisation need to know about images.

    Attributes:
        image_size: (height, width) in pixels.
        mean: per channel, for pixels scaled to 0..1.
        std: as `mean`.
        fingerprint: hexadecimal digest of the training data's content; independent of its path.
    """

    num_classes: int
    class_names: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_train: int
    fingerprint: str


class Split(Protocol):
    """Labelled images that can be read in any order: in memory, or from a folder of files."""

    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images."""

    def with_labels(self, labels: Tensor) -> Split:
        """Return the same images under other labels, int64 (num,)."""

    def read(
        self,
        order: Tensor,
        batch_size: int,
        *,
        device: torch.device,
        transform: SampleTransform | None = None,
        seeds: Sequence[int] | None = None,
        workers: Workers = ALONE,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of pixels and labels.

        Args:
            order: (num,) indices of the images to read, in reading order.
            batch_size: images per batch; the last one may be smaller.
            device: where the batches are wanted.
            transform: applied to each image; needs `seeds`.
            seeds: one per batch.
            workers: who reads together; each reads its rows of every batch.

        Yields:
            uint8 images (batch, channels, height, width) and int64 labels (batch,); with several
            workers a last batch may have none for some.
        """


@dataclass(eq=False)  # comparing tensors gives no truth value
class ImageSplit:
    """Labelled images in memory.

    Attributes:
        images: uint8 (num, channels, height, width); usually a memory-mapped cache file that all
            processes of a node share. Never write to it.
        labels: int64 (num,).
    """

    images: Tensor
    labels: Tensor
    _copies: dict[torch.device, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def with_labels(self, labels: Tensor) -> ImageSplit:
        """Return the same images under other labels; see `Split.with_labels`."""
        return ImageSplit(self.images, labels)

    def to(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return images and labels on a device; all streams of this split share the one copy."""
        if device.type == "cpu":
            return self.images, self.labels
        if device not in self._copies:
            self._copies[device] = self.images.to(device), self.labels.to(device)
        return self._copies[device]

    def read(
        self,
        order: Tensor,
        batch_size: int,
        *,
        device: torch.device,
        transform: SampleTransform | None = None,
        seeds: Sequence[int] | None = None,
        workers: Workers = ALONE,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches; see `Split.read`."""
        images, labels = self.to(device)
        for number, whole in enumerate(torch.split(order.to(device), batch_size)):
            held = workers.rows(len(whole)).held
            indices = whole[held]
            batch = images[indices]
            if transform is not None and len(batch):
                assert seeds is not None
                ours = sample_seeds(seeds[number], len(whole))[held]
                batch = torch.stack(
                    [transform(image, seed) for image, seed in zip(batch, ours, strict=True)]
                )
            yield batch, labels[indices]


def nothing_to_check() -> None:
    """Check nothing, and know no size: for data in memory."""


@dataclass(frozen=True)
class ImageData:
    """An opened image dataset.

    Attributes:
        train: all images that may be used to learn or to choose anything.
        test_opener: what `open_test` calls.
        test_checker: what `check_test` calls.
    """

    info: ImageInfo
    train: Split
    test_opener: Callable[[], Split]
    test_checker: Callable[[], int | None] = nothing_to_check

    def check_test(self) -> int | None:
        """Insist that the test set can be used, before a training that ends with it.

        Files, shapes, labels and class names are looked at, of a set that is not too large every
        image too, so that a fault shows now and not after the last epoch. Nothing is scored.

        Returns:
            the number of images; None where it is not known.

        Raises:
            DataError: it is missing, damaged or does not fit the training data.
        """
        return self.test_checker()

    def open_test(self) -> Split:
        """Open the test set, for a final evaluation only.

        This and `check_test` are the only ways to it: nothing else in the package reads a test
        file.

        Raises:
            DataError: it is missing or does not fit the training data.
        """
        return self.test_opener()


@dataclass(frozen=True)
class TextInfo:
    """What a language model needs to know about a text.

    Attributes:
        vocabulary: words by token number.
        num_train: tokens of the training part.
        num_valid: tokens of the validation part.
        fingerprint: as `ImageInfo.fingerprint`, of the training and validation text.
    """

    vocab_size: int
    vocabulary: tuple[str, ...]
    num_train: int
    num_valid: int
    fingerprint: str


@dataclass(frozen=True)
class TextData:
    """An opened text.

    Attributes:
        train: int64 token numbers (num_train,).
        valid: int64 token numbers (num_valid,).
        test_opener: what `open_test` calls.
        test_checker: what `check_test` calls.
    """

    info: TextInfo
    train: Tensor
    valid: Tensor
    test_opener: Callable[[], Tensor]
    test_checker: Callable[[], int | None] = nothing_to_check

    def check_test(self) -> int | None:
        """Insist that the test text can be used, before a training that ends with it.

        Returns:
            the number of tokens; None where it is not known.

        Raises:
            DataError: it is missing, or holds a word that the vocabulary cannot express.
        """
        return self.test_checker()

    def open_test(self) -> Tensor:
        """Open the test text, for a final evaluation only: int64 token numbers (num_test,).

        Raises:
            DataError: it is missing, or holds a word that the vocabulary cannot express.
        """
        return self.test_opener()


def split_indices(num: int, portion: float, seed: int) -> tuple[Tensor, Tensor]:
    """Shuffle 0..num-1 and cut: the first floor(portion * num), and the rest.

    A deliberate correction of the original code, which cut the file order: the split depends on
    the seed only, so all trials of a study that share a data seed share the split.

    Raises:
        DataError: one part would be empty.
    """
    first = int(portion * num)
    if not 0 < first < num:
        raise DataError(
            f"{num} training images cannot be split at {portion}: one part would be empty. "
            "Use more data or another train_portion."
        )
    order = torch.randperm(num, generator=torch.Generator().manual_seed(seed))
    return order[:first], order[first:]


def sample_seeds(seed: int, num: int) -> list[int]:
    """Spread one seed into `num` independent ones (64 bits each)."""
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(num, np.uint64)]
