"""From a retraining configuration to its network, and how large that network is."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from darts_ray.config import RetrainConfig
from darts_ray.config.retrain import ConvNetworkConfig
from darts_ray.data import ImageInfo, TextInfo
from darts_ray.nn import (
    ConvNetwork,
    ImageNetNetwork,
    RecurrentDropout,
    RecurrentNetwork,
    multiply_adds,
    num_weights,
)
from darts_ray.space.user_modules import import_extensions


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
