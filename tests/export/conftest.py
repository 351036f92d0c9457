from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from darts_ray.export import ModelMetadata, PictureRule, export_onnx
from darts_ray.export.inference import ImageInference
from darts_ray.nn import ConvNetwork
from darts_ray.space import ConvGenotype, Genotype, zoo


@dataclass(frozen=True)
class Exported:
    network: nn.Module
    path: Path
    metadata: ModelMetadata
    images: Tensor


def metadata_of(genotype: Genotype) -> ModelMetadata:
    return ModelMetadata(
        genotype.to_json(),
        tuple("abcde"),
        mean=(0.49, 0.48, 0.45),
        std=(0.25, 0.24, 0.26),
        pictures=PictureRule((32, 32), "stretch", converts_color=True),
        run_id="run-1",
        extra={"test_accuracy": "0.97"},
    )


def coloured_images(number: int) -> Tensor:
    """Images that differ: each has its own colour, under noise."""
    colours = torch.randint(0, 200, (number, 3, 1, 1))
    return (colours + torch.randint(0, 56, (number, 3, 32, 32))).to(torch.uint8)


def fit_statistics(network: ConvNetwork, metadata: ModelMetadata, images: Tensor) -> None:
    """Stand in for training: running statistics of the images, and every class occurs."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
    inference = ImageInference(network, metadata)
    with torch.no_grad():
        inference.train()(images / 255)
        logits = inference.eval()(images / 255)
    network.load_state_dict(inference.network.state_dict())
    with torch.no_grad():
        network.classifier.weight /= logits.std(0).unsqueeze(1)
        network.classifier.bias -= logits.mean(0)
        network.classifier.bias /= logits.std(0)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    genotype = zoo["DARTS_V2"]
    assert isinstance(genotype, ConvGenotype)
    network = ConvNetwork(genotype, 4, 5, 3, auxiliary=True, drop_path=0.0)
    metadata = metadata_of(genotype)
    images = coloured_images(48)
    fit_statistics(network, metadata, images)
    network.drop_path = 0.3
    path = tmp_path_factory.mktemp("exported") / "best.onnx"
    # 32 pixels because of the auxiliary head, which export has to leave out.
    export_onnx(network, path, example_size=(3, 32, 32), metadata=metadata)
    return Exported(network, path, metadata, images)
