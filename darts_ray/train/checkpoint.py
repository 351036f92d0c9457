"""Deployable checkpoints: one file with weights, genotype, sizes and what the data were."""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from darts_ray.config import DataConfig, RetrainConfig
from darts_ray.data import ImageData, ImageInfo, TextData, TextInfo, in_terms_of, open_data
from darts_ray.encoding import recognise
from darts_ray.errors import CheckpointError, ConfigError, DataError
from darts_ray.runtime.device import resolve_device
from darts_ray.train.build import build_network
from darts_ray.train.evaluation import evaluate_network

FORMAT = "darts_ray network 1"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what is known of it.

    Attributes:
        network: in evaluation mode.
        config: how it was trained; holds genotype and sizes.
        info: what it was trained on: class names and normalisation, or the vocabulary.
        metrics: what was measured when it was saved, such as `test_accuracy`.
    """

    network: nn.Module
    config: RetrainConfig
    info: ImageInfo | TextInfo
    metrics: dict[str, float]


def save_checkpoint(
    path: str | Path,
    network: nn.Module,
    config: RetrainConfig,
    info: ImageInfo | TextInfo,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Write a network so that `load_checkpoint` can rebuild it anywhere.

    The file holds plain values and tensors only and appears under its name complete or not at
    all.

    Raises:
        CheckpointError: it cannot be written.
    """
    content = {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "info": asdict(info),
        "weights": {name: value.cpu() for name, value in network.state_dict().items()},
        "metrics": dict(metrics or {}),
    }
    target = Path(path)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # temporary files are private to their owner
        temporary.replace(target)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{target}: the network cannot be written: {error}.") from error


def load_checkpoint(path: str | Path, device: torch.device | None = None) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Args:
        path: the file.
        device: of the network; default: the CPU.

    Raises:
        CheckpointError: the file is missing, truncated or something else; the message names it.
    """
    content = _read(Path(path))
    try:
        config = RetrainConfig.model_validate(content["config"])
        kind = TextInfo if config.data.is_text else ImageInfo
        info: ImageInfo | TextInfo = kind(**content["info"])
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers are not ours
            network = build_network(config, info)
        network.load_state_dict(content["weights"])
        metrics = dict(content["metrics"])
    except (ConfigError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not hold a complete network: {error}.") from error
    return Checkpoint(network.to(device or torch.device("cpu")).eval(), config, info, metrics)


def evaluate_checkpoint(
    path: str | Path,
    data: DataConfig,
    *,
    batch_size: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> dict[str, float]:
    """Score a saved network on the test set of a dataset.

    Images are normalised as the network was trained, and their classes are the network's of the
    same name, whatever their numbers; a text must have its vocabulary.

    Args:
        path: a file of `save_checkpoint`.
        data: which dataset.
        batch_size: default: that of the training's test.
        device: where to run.

    Returns:
        test_loss, test_accuracy and test_top5 (0..1), or test_loss and test_perplexity.

    Raises:
        CheckpointError: as `load_checkpoint`.
        DataError: the data cannot be read, or has another image size, other classes, channels or
            words.
        ResourceError: there is no such device.
    """
    where = resolve_device(device)
    checkpoint = load_checkpoint(path, where)
    opened = open_data(data)
    return evaluate_network(
        checkpoint.network,
        checkpoint.config,
        _as_trained(opened, checkpoint.info),
        batch_size=batch_size,
        device=where,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: there is no such file. Name best.pt of a study, or another checkpoint."
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if head and (kind := recognise(head)):
        raise CheckpointError(f"{path}: is {kind}, not a network that darts_ray wrote.")
    if not zipfile.is_zipfile(path):
        what = "truncated" if head else "empty, so truncated"
        raise CheckpointError(f"{path}: is {what}, or was not written by darts_ray.")
    _check_sums(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make the reader fail in any way
        # what torch says is not passed on: it advises to run the file's code
        raise CheckpointError(
            f"{path}: cannot be read: it is damaged, or holds other things than tensors and plain"
            " values."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: is not a network saved by this version of darts_ray (expected {FORMAT!r})."
            " For a state dict of the original authors' code use --original."
        )
    return content


def _check_sums(path: Path) -> None:
    """Compare every part of the file with the checksum that was written with it.

    torch writes a CRC-32 of every tensor and of the values around them, and does not look at them
    when it reads.

    Raises:
        CheckpointError: a part was altered.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error}. Mend the storage or its permissions."
        ) from error
    except (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError) as error:
        # why NotImplementedError: altered bytes can name a compression that does not exist
        raise CheckpointError(
            f"{path}: cannot be read: it is damaged. Copy it again from where it was written, or"
            " write it again with `darts-ray export`."
        ) from error
    if altered is not None:
        raise CheckpointError(
            f"{path}: was altered after it was written: its part {altered} does not have the"
            " checksum that the file gives. Copy it again from where it was written, or write it"
            " again with `darts-ray export`."
        )


def _as_trained(data: ImageData | TextData, info: ImageInfo | TextInfo) -> ImageData | TextData:
    """Check that a dataset suits a network, and give it the network's normalisation.

    Raises:
        DataError: it does not.
    """
    if isinstance(data, TextData) and isinstance(info, TextInfo):
        if data.info.vocabulary != info.vocabulary:
            raise DataError(
                f"The text has {data.info.vocab_size} words and the network was trained on"
                f" {info.vocab_size}; vocabularies must be the same, word for word: use the same"
                " train.txt and valid.txt."
            )
        return data
    if isinstance(data, ImageData) and isinstance(info, ImageInfo):
        if data.info.channels != info.channels:
            raise DataError(
                f"The images have {data.info.num_classes} classes and {data.info.channels}"
                f" channels; the network was trained on {info.num_classes} and {info.channels}:"
                " set data.channels, or use the network's data."
            )
        if data.info.image_size != info.image_size:
            own, trained = (f"{h}x{w}" for h, w in (data.info.image_size, info.image_size))
            height, width = info.image_size
            remedy = f"set data.image_size: {height}, which resizes them"
            raise DataError(
                f"The images have {own} pixels (height x width); the network was trained on"
                f" {trained} and would be wrong on others:"
                f" {remedy if height == width else 'resize them first'}."
            )
        data = in_terms_of(data, info.class_names, "the trained network")
        return replace(data, info=replace(data.info, mean=info.mean, std=info.std))
    raise DataError("The network was trained on text and the data are images, or vice versa.")
