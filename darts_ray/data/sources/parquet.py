"""Image Parquet as Hugging Face writes it: a column of encoded images, a column of labels."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darts_ray.config import DataConfig
from darts_ray.data.classes import label_map, listed
from darts_ray.data.sources.base import Decoded, Labels, Part, Pixels, chosen_rows
from darts_ray.data.sources.decoding import check_shape, decode_image, stretch
from darts_ray.data.sources.parquet_file import ParquetShard, ShardLabels
from darts_ray.data.sources.shards import find_shards
from darts_ray.errors import DataError

_MANY_CLASSES = 1000
_log = logging.getLogger(__name__)


class ParquetSource:
    """The shards of a part (see `find_shards`), in a folder, its data/ or another subfolder.

    Images are struct<bytes, path> or binary. Labels are numbers or class names. Names of numbers
    come from the schema's `huggingface` metadata; without it they are the numbers up to the
    largest training label. Shards that count the same classes differently are brought in line by
    name.
    """

    def __init__(self, config: DataConfig) -> None:
        assert config.path is not None
        self._config = config
        self._folder = Path(config.path).expanduser()

    def files(self, part: Part) -> list[Path]:
        """Return the shards of a part, by number."""
        name = "train" if part == "train" else (self._config.test_part or "test")
        return find_shards(self._folder, name)

    def decode(self, part: Part) -> Decoded:
        """Read a part; labels are checked before any image is decoded."""
        shards = [ParquetShard(file, self._config) for file in self.files(part)]
        shard_labels = [shard.labels() for shard in shards]
        if not any(len(given.labels) for given in shard_labels):
            raise DataError(f"{self._folder}: the {part} files hold no rows.")
        if all(given.names is None for given in shard_labels):
            labels = np.concatenate([given.labels for given in shard_labels])
            labels, names = self._numbered(labels, part)
        else:
            labels, names = self._by_name(shards, shard_labels)
        maximum = self._config.max_train if part == "train" else self._config.max_test
        rows = chosen_rows(len(labels), maximum, self._config.split_seed)
        return Decoded(self._images(shards, rows), labels[rows], names)

    def _numbered(self, labels: Labels, part: Part) -> tuple[Labels, tuple[str, ...]]:
        """Count bare numbers from the first class on.

        Training must show every class; a test part may lack some.
        """
        first = self._config.first_label or 0
        if (lowest := int(labels.min())) < first:
            raise DataError(
                f"{self._folder}: the {part} files have the label {lowest}, below"
                f" data.first_label, {first}."
            )
        labels = labels - first
        num_classes = int(labels.max()) + 1
        given = self._config.class_names
        if given is not None and num_classes > len(given):
            raise DataError(
                f"{self._folder}: the labels of the {part} files reach {num_classes - 1 + first},"
                f" but data.class_names names {len(given)} classes, counted from {first}. If the"
                " first class has another number, set data.first_label."
            )
        if num_classes > len(labels) + 1 and part == "train":
            raise DataError(
                f"{self._folder}: the labels reach {num_classes - 1 + first}, but there are only "
                f"{len(labels)} images: labels must count the classes from 0. Is "
                "data.label_column the right column?"
            )
        if given is None and part == "train":
            unused = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0) + first
            if len(unused):
                raise DataError(
                    f"{self._folder}: the labels reach {num_classes - 1 + first}, but no training"
                    f" image has the label {listed(unused.tolist())}. If the classes are counted"
                    f" from {int(labels.min()) + first}, set data.first_label to that; if these"
                    " classes have no images, name all classes in data.class_names."
                )
        count = len(given) if given is not None else num_classes
        return labels, tuple(str(label + first) for label in range(count))

    def _by_name(
        self, shards: list[ParquetShard], given: list[ShardLabels]
    ) -> tuple[Labels, tuple[str, ...]]:
        """Give every class one number in all shards."""
        if self._config.first_label is not None:
            raise DataError(
                f"{self._folder}: data.first_label is for labels that are bare numbers, but these"
                " files name their classes; leave it out."
            )
        main = next((i for i, labels in enumerate(given) if labels.declared), None)
        if main is not None:
            names, where = given[main].names or (), str(shards[main].path)
        else:
            every = {name for labels in given for name in labels.names or ()}
            names, where = tuple(sorted(every)), "the other files of the part"
            num = sum(len(labels.labels) for labels in given)
            if len(names) > max(_MANY_CLASSES, num // 2):
                raise DataError(
                    f"{self._folder}: the label column holds {len(names)} different texts for"
                    f" {num} images, too many for classes. Set data.label_column."
                )
        labels = []
        for shard, own in zip(shards, given, strict=True):
            if own.names is None:
                raise DataError(
                    f"{shard.path}: its labels are bare numbers, but classes have names in {where}"
                    f" ({listed(names)}): write the same metadata into all files."
                )
            mapping = label_map(own.names, names, str(shard.path), where)
            labels.append(mapping[own.labels] if len(own.labels) else own.labels)
        if main is None:
            _log.warning(
                "%s: labels are texts; classes in sorted order: %s", self._folder, listed(names)
            )
        return np.concatenate(labels), names

    def _images(self, shards: list[ParquetShard], rows: NDArray[np.int64]) -> Pixels:
        """Decode the images in the given rows, numbered over all shards."""
        images: Pixels | None = None
        done = first = 0
        for shard in shards:
            inside = rows[(rows >= first) & (rows < first + shard.num_rows)] - first
            first += shard.num_rows
            for row, encoded in shard.encoded(inside):
                where = f"{shard.path}, row {row} (the first is row 0)"
                pixels = decode_image(
                    encoded, where, self._config.channels, stretch(self._config.image_size)
                )
                if images is None:
                    images = np.empty((len(rows), *pixels.shape), dtype=np.uint8)
                check_shape(pixels.shape, images.shape[1:], where)
                images[done] = pixels
                done += 1
        assert images is not None
        return images
