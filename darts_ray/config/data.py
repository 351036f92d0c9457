"""Where data comes from and how images are augmented."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from darts_ray.config.base import Model, NonNegativeFloat, NonNegativeInt, PositiveInt, Seed

TEXT_SOURCES = ("english", "text")


class DataConfig(Model):
    """A dataset.

    `digits` (scikit-learn's 8x8 images) and `english` (CPython's own help text) need no files.
    `parquet` reads Hugging Face style image Parquet, `image_folder` the ImageNet layout
    (train/CLASS/*.jpg and val/CLASS/*.jpg), `text` a folder with train.txt, valid.txt, test.txt.
    Classes are told apart by name wherever the data name them, so parts may number them
    differently.
    """

    source: Literal[
        "digits",
        "cifar10",
        "cifar100",
        "svhn",
        "fashion_mnist",
        "mnist",
        "parquet",
        "image_folder",
        "english",
        "text",
    ] = "digits"
    path: str | None = Field(None, description="Folder of the data; not for built-in samples.")
    download: bool = Field(False, description="Let torchvision fetch a missing dataset.")
    cache_dir: str | None = Field(
        None, description="Folder of the decoded Arrow cache; default ~/.cache/darts_ray."
    )
    image_column: str | None = Field(None, description="Parquet column; default: img or image.")
    label_column: str | None = Field(
        None, description="Parquet column; default: label or fine_label."
    )
    test_part: str | None = Field(
        None,
        pattern=r"^\w+(\.\w+)*$",
        description="Which part is the test set (parquet, image_folder), as validation;"
        " default: test of parquet, val of image_folder.",
    )
    class_names: tuple[str, ...] | None = Field(
        None, description="Names of the classes by label, instead of those in the data."
    )
    first_label: NonNegativeInt | None = Field(
        None,
        description="Number of the first class where labels are numbers without names (parquet);"
        " default: 0, and each class must occur in training.",
    )
    image_size: PositiveInt | None = Field(
        None, description="Resize to this many pixels per side; default: the size of the data."
    )
    channels: Literal[1, 3] | None = Field(
        None,
        description="Turn images into grayscale (1) or RGB (3); default: what the data hold.",
    )
    mean: tuple[float, ...] | None = Field(
        None, description="Per channel, for pixels in 0..1; default: measured once on train."
    )
    std: tuple[float, ...] | None = Field(None, description="As mean.")
    split_seed: Seed = Field(
        0, description="Shuffles the training data before any split; the same for all trials."
    )
    max_train: PositiveInt | None = Field(
        None, description="Use only this many training images (or tokens), for quick runs."
    )
    max_test: PositiveInt | None = Field(None, description="As max_train, for the test set.")
    workers: NonNegativeInt = Field(4, description="Decoding processes; image_folder only.")

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.source in ("digits", "english"):
            if self.path is not None:
                raise ValueError(f"path: the built-in source {self.source!r} reads no files")
        elif self.path is None:
            raise ValueError(f"path: the source {self.source!r} needs the folder of its files")
        if self.test_part is not None and self.source not in ("parquet", "image_folder"):
            raise ValueError(f"test_part: the source {self.source!r} has one test set only")
        if self.test_part == "train":
            raise ValueError("test_part: the training part cannot be the test set as well")
        if self.first_label is not None and self.source != "parquet":
            raise ValueError(f"first_label: the source {self.source!r} numbers classes from 0")
        if self.class_names is not None:
            if self.is_text:
                raise ValueError("class_names: a text has no classes")
            if len(set(self.class_names)) < len(self.class_names) or "" in self.class_names:
                raise ValueError("class_names: every class needs a name of its own")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std: give both or none")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std):
                raise ValueError("mean and std: give one number per channel in each")
            if min(self.std) <= 0:
                raise ValueError("std: every number must be above 0")
        return self

    @property
    def is_text(self) -> bool:
        """Whether batches hold tokens rather than images."""
        return self.source in TEXT_SOURCES


class ColorJitter(Model):
    """Strengths as in torchvision's ColorJitter."""

    brightness: NonNegativeFloat = 0.4
    contrast: NonNegativeFloat = 0.4
    saturation: NonNegativeFloat = 0.4
    hue: float = Field(0.2, ge=0, le=0.5)


class AugmentConfig(Model):
    """Random changes to each training image, drawn per sample."""

    crop_padding: NonNegativeInt = Field(4, description="Pixels of zero padding before a crop.")
    horizontal_flip: bool = Field(True, description="Mirror with probability 1/2.")
    cutout: NonNegativeInt = Field(0, description="Side of the erased square in pixels; 0: off.")
    random_resized_crop: bool = Field(
        False, description="Crop 8 % to 100 % of the area, as for ImageNet; replaces the padding."
    )
    color_jitter: ColorJitter | None = None
