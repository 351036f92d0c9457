"""From a retraining configuration to its network and task, and how large the network is."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from darts_ray.config import RetrainConfig
from darts_ray.config.retrain import ConvNetworkConfig
from darts_ray.data import ImageData, ImageInfo, TextData, TextInfo
from darts_ray.errors import ConfigError
from darts_ray.nn import (
    ConvNetwork,
    ImageNetNetwork,
    RecurrentDropout,
    RecurrentNetwork,
    multiply_adds,
    num_weights,
)
from darts_ray.runtime.workers import ALONE, Workers
from darts_ray.space.user_modules import import_extensions
from darts_ray.train.tasks.images import ImageTask
from darts_ray.train.tasks.task import Task
from darts_ray.train.tasks.text import TextTask


def build_network(
    config: RetrainConfig, info: ImageInfo | TextInfo
) -> ConvNetwork | ImageNetNetwork | RecurrentNetwork:
    """Return the derived network that a configuration describes, initialised from the global seed.

    Args:
        config: the retraining.
        info: the dataset: classes and channels, or the vocabulary.

    Raises:
        ConfigError: a module of `imports` cannot be imported, a primitive is unknown, or the
            network does not fit the images.
    """
    import_extensions(config.imports, "imports")
    genotype = config.parsed_genotype()
    network = config.network
    if isinstance(network, ConvNetworkConfig):
        assert isinstance(info, ImageInfo)
        kind = ConvNetwork if network.style == "cifar" else ImageNetNetwork
        conv = kind(
            genotype,
            channels=network.channels,
            num_classes=info.num_classes,
            layers=network.layers,
            auxiliary=network.auxiliary,
            drop_path=network.drop_path,
            in_channels=info.channels,
        )
        conv.check_image_size(*info.image_size)
        return conv
    assert isinstance(info, TextInfo)
    return RecurrentNetwork(
        genotype,
        info.vocab_size,
        embedding_dim=network.embedding_dim,
        hidden_dim=network.hidden_dim,
        dropout=RecurrentDropout(**network.dropout.model_dump()),
        tar_beta=network.tar_beta,
    )


def make_task(
    config: RetrainConfig,
    data: ImageData | TextData,
    network: ConvNetwork | ImageNetNetwork | RecurrentNetwork,
    device: torch.device,
    workers: Workers = ALONE,
) -> Task:
    """Return a network that `build_network` made together with the data that train it.

    Args:
        config: the retraining.
        data: what it trains on.
        network: on `device`.
        device: where batches are made.
        workers: who trains together (images).

    Raises:
        ConfigError: the network cannot train on batches as small as there are, or several
            workers train on text.
        DataError: a part of the data is smaller than a batch.
    """
    if isinstance(data, TextData):
        if workers.several:
            raise ConfigError(
                "resources.workers_per_trial: text is trained by one worker per trial; set it"
                " to 1."
            )
        assert isinstance(network, RecurrentNetwork)
        return TextTask(config, data, network, device)
    assert not isinstance(network, RecurrentNetwork)
    return ImageTask(config, data, network, device, workers)


def describe_network(network: nn.Module, info: ImageInfo | TextInfo) -> dict[str, int]:
    """Return `num_parameters` (no auxiliary head) and `multiply_adds` per image or token."""
    if isinstance(info, ImageInfo):
        adds = multiply_adds(network, (info.channels, *info.image_size))
    else:
        assert isinstance(network, RecurrentNetwork)
        adds = _multiply_adds_per_token(network)
    return {"num_parameters": num_weights(network), "multiply_adds": adds}


def _multiply_adds_per_token(network: RecurrentNetwork) -> int:
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    token = torch.zeros(1, 1, dtype=torch.int64, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(token, network.init_hidden(1))
    network.train(was_training)
    return int(counter.get_total_flops()) // 2  # a multiply-add is two operations
