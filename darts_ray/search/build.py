"""From a search configuration to its supernet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from darts_ray.config import SearchConfig
from darts_ray.config.search import ConvSupernetConfig
from darts_ray.config.space import SpaceConfig
from darts_ray.data import ImageInfo, TextInfo
from darts_ray.errors import ConfigError
from darts_ray.nn import ConvSupernet, RecurrentDropout, RecurrentSupernet
from darts_ray.nn.conv.chained import Chain, connections_of
from darts_ray.nn.conv.connections import Connection, EdgeDropPath
from darts_ray.search.methods import MethodLike, methods, prepare_alphas
from darts_ray.search.parts import Method
from darts_ray.space.user_modules import import_extensions


def build_supernet(
    config: SearchConfig, info: ImageInfo | TextInfo, method: MethodLike | None = None
) -> ConvSupernet | RecurrentSupernet:
    """Return the supernet that a configuration describes, initialised from the global seed.

    Modules named by the space are imported first, because they register own operations. With
    `compile` each cell is compiled when it first runs, not the whole network: compiling takes
    minutes and grows faster than what is compiled.

    Args:
        config: the search.
        info: the dataset: classes and channels, or the vocabulary.
        method: instead of `config.method`.

    Raises:
        ConfigError: a module cannot be imported, a primitive is unknown, the network does not
            fit the images, or `compile` is combined with something that differentiates twice.
    """
    if isinstance(config.space, SpaceConfig):
        import_extensions(config.space.imports, "space.imports")
    parts = methods.make(config.method if method is None else method)
    space = config.search_space()
    network = config.network
    if isinstance(network, ConvSupernetConfig):
        assert isinstance(info, ImageInfo)
        supernet = ConvSupernet(
            channels=network.channels,
            num_classes=info.num_classes,
            layers=network.layers,
            in_channels=info.channels,
            stem_multiplier=network.stem_multiplier,
            space=space,
            connection=_connection(config, parts),
        )
        prepare_alphas(supernet, parts)
        supernet.check_image_size(*info.image_size)
        if config.compile:
            _compile(config, supernet.cells)
        return supernet
    assert isinstance(info, TextInfo)
    dropout = network.dropout
    language_model = RecurrentSupernet(
        info.vocab_size,
        embedding_dim=network.embedding_dim,
        hidden_dim=network.hidden_dim,
        dropout=RecurrentDropout(
            output=dropout.output,
            hidden=dropout.hidden,
            input=dropout.input,
            embedding=dropout.embedding,
            word=dropout.word,
        ),
        tar_beta=network.tar_beta,
        space=space,
    )
    prepare_alphas(language_model, parts)
    if config.compile:
        _compile(config, [language_model.cell])
    return language_model


def set_drop_path(supernet: Any, probability: float) -> None:
    """Set the probability with which the supernet's edges are dropped."""
    for drop_path in connections_of(supernet, EdgeDropPath):
        drop_path.probability = probability


def _connection(config: SearchConfig, method: Method) -> Connection | None:
    """Return what surrounds the operations: the method's, and drop path around the sum."""
    parts = [] if method.connection is None else [method.connection()]
    if config.drop_path.probability:
        parts.append(EdgeDropPath())
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else Chain(*parts)


def _compile(config: SearchConfig, cells: Iterable[nn.Module]) -> None:
    exact = config.optim.order == "unrolled" and config.optim.hvp == "exact"
    if exact or config.hessian_every:
        cause = "optim.hvp: exact" if exact else "hessian_every"
        raise ConfigError(
            f"compile: torch.compile cannot differentiate twice, which {cause} needs; switch one"
            " of the two off."
        )
    num_cells = 0
    for cell in cells:
        cell.compile(dynamic=False)  # cells differ in channels, each cell's shapes stay
        num_cells += 1
    # PyTorch counts the versions of all cells together (weights and alphas differentiated, or
    # alphas only), and silently stops compiling after 8.
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, 4 * num_cells)
