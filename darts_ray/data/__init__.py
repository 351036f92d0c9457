"""Where batches come from: datasets, the decoded cache, augmentation, seeded streams."""

from darts_ray.data.classes import in_terms_of
from darts_ray.data.dataset import (
    ImageData,
    ImageInfo,
    ImageSplit,
    Split,
    TextData,
    TextInfo,
    split_indices,
)
from darts_ray.data.image_folder.opening import accept_listing, shared_listing
from darts_ray.data.image_stream import ImageStream, evaluation_batches
from darts_ray.data.opening import open_data, open_images, open_text
from darts_ray.data.text.stream import TextStream, batchify, check_length, text_batches

__all__ = [
    "ImageData",
    "ImageInfo",
    "ImageSplit",
    "ImageStream",
    "Split",
    "TextData",
    "TextInfo",
    "TextStream",
    "accept_listing",
    "batchify",
    "check_length",
    "evaluation_batches",
    "in_terms_of",
    "open_data",
    "open_images",
    "open_text",
    "shared_listing",
    "split_indices",
    "text_batches",
]
