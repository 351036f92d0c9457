import copy
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from darts_ray.errors import ConfigError, ExportError
from darts_ray.export import export_onnx, load_proto, verify_onnx
from darts_ray.nn import ConvNetwork, register_operation
from darts_ray.space import ConvGenotype, Edge, zoo
from tests.export.conftest import Exported, metadata_of


def axes(value: onnx.ValueInfoProto) -> list[str | int]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def test_interface_is_named_and_its_batch_is_dynamic(exported: Exported) -> None:
    graph = load_proto(exported.path).graph
    assert [(value.name, axes(value)) for value in graph.input] == [
        ("images", ["batch", 3, 32, 32])
    ]
    assert [(value.name, axes(value)) for value in graph.output] == [("logits", ["batch", 5])]


def test_graph_normalises_explicitly(exported: Exported) -> None:
    assert [node.op_type for node in load_proto(exported.path).graph.node][:2] == ["Sub", "Div"]


def test_auxiliary_head_and_training_nodes_are_gone(exported: Exported) -> None:
    graph = load_proto(exported.path).graph
    assert "auxiliary" in str([name for name, _ in exported.network.named_parameters()])
    assert "auxiliary" not in str([tensor.name for tensor in graph.initializer])
    assert not {"Dropout", "RandomUniformLike", "Bernoulli"} & {n.op_type for n in graph.node}
    assert sum(node.op_type == "Gemm" for node in graph.node) == 1


def test_file_stands_alone_and_does_not_tell_of_this_machine(exported: Exported) -> None:
    assert [path.name for path in exported.path.parent.iterdir()] == ["best.onnx"]
    assert b"darts_ray/nn" not in exported.path.read_bytes()


def test_network_is_left_as_it_was(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 5))
    network = network.to(memory_format=torch.channels_last)
    before = copy.deepcopy(network.state_dict())
    metadata = metadata_of(zoo["DARTS_V2"])
    export_onnx(network, tmp_path / "a.onnx", example_size=(3, 2, 2), metadata=metadata, opset=18)
    assert network.training
    assert network[1].training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    # The requested opset is the one that is written.
    written = {
        entry.domain: entry.version for entry in load_proto(tmp_path / "a.onnx").opset_import
    }
    assert written[""] == 18


def test_every_channel_needs_mean_and_std(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="1 channels, the metadata 3 means"):
        export_onnx(
            exported.network,
            tmp_path / "a.onnx",
            example_size=(1, 32, 32),
            metadata=exported.metadata,
        )
    assert not list(tmp_path.iterdir())


def test_registered_operation_is_exported(tmp_path: Path) -> None:
    class Gate(nn.Module):
        def __init__(self, channels: int, stride: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels)

        def forward(self, x: Tensor) -> Tensor:
            gated: Tensor = self.conv(x)
            return gated * torch.sigmoid(gated.mean((2, 3), keepdim=True))

    @register_operation("export_test_gate")
    def make(channels: int, stride: int, affine: bool) -> nn.Module:
        return Gate(channels, stride)

    edges = (Edge("export_test_gate", 0), Edge("skip_connect", 1))
    genotype = ConvGenotype(edges, (2,), edges, (2,))
    network = ConvNetwork(genotype, 4, 5, 3, auxiliary=False)
    path = tmp_path / "gate.onnx"
    export_onnx(network, path, example_size=(3, 8, 8), metadata=metadata_of(genotype))
    assert "Sigmoid" in {node.op_type for node in load_proto(path).graph.node}
    assert verify_onnx(path, network, torch.rand(7, 3, 8, 8)).max_difference < 1e-5


def test_what_torch_cannot_export_keeps_the_old_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) if float(x.sum()) > 0 else -x.flatten(1)

    path = tmp_path / "best.onnx"
    path.write_bytes(b"the last good export")
    metadata = metadata_of(zoo["DARTS_V2"])
    with pytest.raises(ExportError, match=r"operators that torch\.onnx\.export supports"):
        export_onnx(Branch(), path, example_size=(3, 4, 4), metadata=metadata)
    assert path.read_bytes() == b"the last good export"
    assert capfd.readouterr() == ("", "")


def test_too_small_images_are_the_users_error(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too small"):
        export_onnx(
            exported.network,
            tmp_path / "a.onnx",
            example_size=(3, 2, 2),
            metadata=exported.metadata,
        )
