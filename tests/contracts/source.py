"""What every reader of images fulfils."""

from __future__ import annotations

from typing import get_args

import numpy as np

from darts_ray.data.sources import ImageSource, Part

PARTS: tuple[Part, ...] = get_args(Part)


class SourceContract:
    """Subclasses have the fixture `source`: a reader of a set with both parts."""

    def test_images_labels_and_names_belong_together(self, source: ImageSource) -> None:
        for part in PARTS:
            decoded = source.decode(part)
            assert decoded.images.dtype == np.uint8
            assert decoded.images.ndim == 4
            assert decoded.images.shape[1] in (1, 3)
            assert decoded.labels.dtype == np.int64
            assert decoded.labels.shape == (len(decoded.images),)
            assert 0 <= decoded.labels.min() <= decoded.labels.max() < len(decoded.class_names)

    def test_both_parts_count_classes_alike(self, source: ImageSource) -> None:
        assert source.decode("train").class_names == source.decode("test").class_names

    def test_reading_twice_gives_the_same(self, source: ImageSource) -> None:
        for part in PARTS:
            once, twice = source.decode(part), source.decode(part)
            np.testing.assert_array_equal(once.images, twice.images)
            np.testing.assert_array_equal(once.labels, twice.labels)

    def test_parts_share_no_file_and_no_image(self, source: ImageSource) -> None:
        for part in PARTS:
            assert all(file.is_file() for file in source.files(part))
        train, test = ({image.tobytes() for image in source.decode(part).images} for part in PARTS)
        assert not train & test
