"""Scores a trained network from a file, ours or the original authors'."""

from __future__ import annotations

from pathlib import Path

import torch

from darts_ray.config import DataConfig, StudyConfig
from darts_ray.data import open_data
from darts_ray.errors import CheckpointError, CheckpointFileError, ConfigError
from darts_ray.interop import load_original, read_checkpoint
from darts_ray.runtime.device import resolve_device
from darts_ray.study.files.genotype_source import find_genotype
from darts_ray.train import build_network, evaluate_checkpoint, evaluate_network


def evaluate_file(
    path: Path,
    config: StudyConfig | DataConfig,
    *,
    original: bool = False,
    genotype: str | None = None,
) -> dict[str, float]:
    """Return a network's scores on the test set of the configuration's data.

    Args:
        path: `best.pt` of a study or a `network.pt` of a retraining; with `original` a state
            dict of the original authors' code.
        config: the dataset, or a study of it; with `original` its retrain section gives the
            network's size.
        original: which of the two kinds of file.
        genotype: with `original`: name, file or study; default: that of the retrain section.

    A state dict of the original code does not name classes; they are taken to be those of the
    data, in the order of their labels there.

    Raises:
        CheckpointFileError: the file cannot be read or does not fit the network, or its weights
            are not finite.
        ConfigError: `original` without a retrain section or genotype.
        DataError: the data cannot be read or do not fit the network.
    """
    try:
        if original:
            return _evaluate_original(path, config, genotype)
        if genotype is not None:
            raise ConfigError("--genotype: our checkpoints know theirs; it goes with --original.")
        return evaluate_checkpoint(path, config if isinstance(config, DataConfig) else config.data)
    except CheckpointError as error:
        raise CheckpointFileError(str(error)) from error


def _evaluate_original(
    path: Path, config: StudyConfig | DataConfig, genotype: str | None
) -> dict[str, float]:
    if isinstance(config, DataConfig) or config.retrain is None:
        raise ConfigError("--original: the YAML file needs a retrain section for the network.")
    cell = find_genotype(genotype).to_dict() if genotype else config.retrain.genotype
    if cell is None:
        raise ConfigError("--original: give the cell with --genotype.")
    weights = read_checkpoint(path)  # before the data, which may take minutes to decode
    recipe = config.retrain_config(cell, seed=0)
    device = resolve_device(recipe.device)
    opened = open_data(config.data)
    network = build_network(recipe, opened.info)
    load_original(network, weights)
    for name, value in network.state_dict().items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"{path}: its entry {name!r} holds NaN or infinite values, so the network computes"
                " nothing; the training that wrote it had diverged."
            )
    return evaluate_network(network.to(device).eval(), recipe, opened, device=device)
