from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from darts_ray.config import RetrainConfig
from darts_ray.data import ImageInfo
from darts_ray.errors import ConfigError
from darts_ray.nn import ConvNetwork, ImageNetNetwork, RecurrentNetwork
from darts_ray.train import RetrainRun, build_network, describe_network
from tests.train.conftest import image_config, make_images, make_text, text_config


def _info(size: int, classes: int) -> ImageInfo:
    thirds = (0.5, 0.5, 0.5)
    names = tuple(map(str, range(classes)))
    return ImageInfo(classes, names, 3, (size, size), thirds, thirds, 50_000, "none")


@pytest.mark.parametrize(
    ("style", "size", "classes", "channels", "layers", "parameters"),
    [("cifar", 32, 10, 36, 20, 3_349_342), ("imagenet", 224, 1000, 48, 14, 4_718_752)],
)
def test_paper_sizes(
    style: str, size: int, classes: int, channels: int, layers: int, parameters: int
) -> None:
    # parameter counts of REFERENCE.md, without the auxiliary head, for DARTS_V2
    sizes = {"style": style, "channels": channels, "layers": layers}
    config = image_config(network={**sizes, "auxiliary": True})
    network = build_network(config, _info(size, classes))
    assert type(network) is (ConvNetwork if style == "cifar" else ImageNetNetwork)
    described = describe_network(network, _info(size, classes))
    assert described["num_parameters"] == parameters
    if style == "imagenet":
        # the paper's table 3 says 574M; convolutions and the classifier alone are a little less
        assert 0.9 * 574e6 < described["multiply_adds"] < 574e6


def test_recurrent_paper_size() -> None:
    sizes = {"embedding_dim": 850, "hidden_dim": 850}
    config = text_config(network=sizes)
    info = make_text().info
    network = build_network(config, info)
    assert isinstance(network, RecurrentNetwork)
    # W0: 1700 x 1700; eight nodes: 850 x 1700 each; decoder: 13 words x 850, its bias apart
    multiply_adds = 1700 * 1700 + 8 * 850 * 1700 + 13 * 850
    assert describe_network(network, info) == {
        "num_parameters": multiply_adds + 13,
        "multiply_adds": multiply_adds,
    }
    assert network.dropout.word == 0.1
    assert network.training


def test_description_of_a_run_leaves_it_as_it_was() -> None:
    plain, described = (RetrainRun(text_config(), make_text()) for _ in range(2))
    assert described.describe()["multiply_adds"] > 0
    clocks = {"seconds", "samples_per_second", "peak_memory_bytes"}
    rows = [
        {k: v for k, v in r.run_epoch().items() if k not in clocks} for r in (plain, described)
    ]
    assert rows[0] == rows[1]


def test_own_operations_are_imported_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "retrain_operations.py").write_text(
        "from torch import nn\n"
        "from darts_ray.nn import register_operation\n"
        "@register_operation('test_only_retrain_pool')\n"
        "def pool(channels, stride, affine):\n"
        "    return nn.AvgPool2d(3, stride, padding=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    edge = ["test_only_retrain_pool", 0]
    cell = {"normal": [edge, edge], "normal_concat": [2], "reduce": [edge, edge]}
    genotype: dict[str, Any] = {"kind": "conv", "reduce_concat": [2], **cell}
    data = make_images()
    with pytest.raises(ConfigError, match="test_only_retrain_pool"):
        build_network(image_config(genotype=genotype), data.info)
    config = image_config(genotype=genotype, imports=("retrain_operations",))
    network = build_network(config, data.info)
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize(
    ("make", "options", "place"),
    [
        (image_config, {"asgd_patience": 5}, "asgd_patience"),
        (image_config, {"stop_patience": 5}, "stop_patience"),
        (text_config, {"label_smoothing": 0.1}, "label_smoothing"),
    ],
)
def test_options_of_the_other_kind_are_refused(make: Any, options: Any, place: str) -> None:
    with pytest.raises(ValueError, match=place):
        make(optim=options)


def test_text_is_not_compiled() -> None:
    with pytest.raises(ValueError, match="compile: is for images"):
        text_config(compile=True)


def test_defaults_are_the_papers_for_cifar() -> None:
    config = RetrainConfig()
    assert (config.epochs, config.batch_size, config.augment.cutout) == (600, 96, 16)
    optim = config.optim
    assert (optim.lr, optim.momentum, optim.weight_decay, optim.grad_clip) == (0.025, 0.9, 3e-4, 5)
