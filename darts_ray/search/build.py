"""From a search configuration to its supernet."""

from __future__ import annotations

from darts_ray.config import SearchConfig
from darts_ray.config.search import ConvSupernetConfig, SpaceConfig
from darts_ray.data import ImageInfo, TextInfo
from darts_ray.nn import ConvSupernet, RecurrentDropout, RecurrentSupernet
from darts_ray.nn.extensions import import_extensions


def build_supernet(
    config: SearchConfig, info: ImageInfo | TextInfo
) -> ConvSupernet | RecurrentSupernet:
    """Return the supernet that a configuration describes, initialised from the global seed.

    Modules named by the space are imported first, because they register own operations.

    Args:
        config: the search.
        info: the dataset: classes and channels, or the vocabulary.

    Raises:
        ConfigError: a module cannot be imported, a primitive is unknown, or the network does
            not fit the images.
    """
    if isinstance(config.space, SpaceConfig):
        import_extensions(config.space.imports, "space.imports")
    space = config.search_space()
    network = config.network
    if isinstance(network, ConvSupernetConfig):
        assert isinstance(info, ImageInfo)
        supernet = ConvSupernet(
            channels=network.channels,
            num_classes=info.num_classes,
            layers=network.layers,
            nodes=space.nodes,
            in_channels=info.channels,
            stem_multiplier=network.stem_multiplier,
            space=space,
        )
        supernet.check_image_size(*info.image_size)
        return supernet
    assert isinstance(info, TextInfo)
    dropout = network.dropout
    return RecurrentSupernet(
        info.vocab_size,
        embedding_dim=network.embedding_dim,
        hidden_dim=network.hidden_dim,
        nodes=space.nodes,
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
