import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import darts_ray
from darts_ray.errors import ConfigError, ExportError
from darts_ray.export import OnnxNetwork, export_onnx, load_proto, verify_onnx
from darts_ray.export.onnx_file import graph_digest, sidecar
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


def test_graph_normalises_by_a_depthwise_convolution(exported: Exported) -> None:
    graph = load_proto(exported.path).graph
    first = graph.node[0]
    assert (first.op_type, list(first.input)[:1]) == ("Conv", ["images"])
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weight, bias = (tensors[name] for name in first.input[1:])
    std, mean = np.array(exported.metadata.std), np.array(exported.metadata.mean)
    np.testing.assert_allclose(weight, (1 / std).reshape(3, 1, 1, 1), rtol=1e-6)
    np.testing.assert_allclose(bias, -mean / std, rtol=1e-6)


def test_only_what_every_runtime_knows_is_in_the_graph(exported: Exported) -> None:
    kinds = {node.op_type for node in load_proto(exported.path).graph.node}
    # No BatchNormalization (folded), no ReduceMean (pooled), no Sub and Div (a convolution).
    assert kinds <= {
        *("Conv", "Relu", "Add", "Concat", "MaxPool", "AveragePool", "Slice", "Pad"),
        *("GlobalAveragePool", "Flatten", "Gemm"),
    }


def test_file_says_who_made_it_and_what_it_does(exported: Exported) -> None:
    proto = load_proto(exported.path)
    # OpenCV's importer takes average pools of "pytorch" files for others.
    assert (proto.producer_name, proto.producer_version) == ("darts_ray", darts_ray.__version__)
    assert proto.model_version == 1
    assert "5 classes" in proto.doc_string
    assert "float32 NCHW" in proto.doc_string


# onnx's own table: opset 18 came with IR 8, 19 and 20 with IR 9, 21 with IR 10.
@pytest.mark.parametrize(("opset", "ir_version"), [(17, 8), (18, 8), (20, 9), (21, 10)])
def test_ir_version_is_the_lowest_that_the_opset_allows(
    tmp_path: Path, opset: int, ir_version: int
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), Pooled(), nn.Linear(4, 5))
    path = tmp_path / "a.onnx"
    metadata = metadata_of(zoo["DARTS_V2"])
    export_onnx(network, path, example_size=(3, 8, 8), metadata=metadata, opset=opset)
    proto = load_proto(path)
    assert proto.ir_version == ir_version
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", opset)]
    assert verify_onnx(path, network, torch.rand(10, 3, 8, 8)).max_difference < 1e-5


def test_the_digest_is_of_operators_and_weights_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), Pooled(), nn.Linear(4, 5))

    def digest(run_id: str, opset: int = 20) -> bytes:
        metadata = dataclasses.replace(metadata_of(zoo["DARTS_V2"]), run_id=run_id)
        path = tmp_path / f"{run_id}.onnx"
        export_onnx(network, path, example_size=(3, 8, 8), metadata=metadata, opset=opset)
        return graph_digest(path)

    first = digest("run-1")
    assert digest("run-2") == first
    assert digest("run-1", opset=19) != first
    network[0].weight.data[0] += 1e-3
    assert digest("run-1") != first


class Pooled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def test_odd_sizes_need_no_negative_pads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    genotype = zoo["DARTS_V2"]
    assert isinstance(genotype, ConvGenotype)
    network = ConvNetwork(genotype, 4, 5, 3, auxiliary=False)
    path = tmp_path / "odd.onnx"
    metadata = metadata_of(genotype)
    export_onnx(network, path, example_size=(3, 13, 11), metadata=metadata)
    graph = load_proto(path).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pads = [
        value
        for node in graph.node
        for attribute in node.attribute
        if attribute.name == "pads"
        for value in attribute.ints
    ]
    for node in graph.node:
        if node.op_type == "Pad":
            pads += tensors[node.input[1]].tolist()
    assert min(pads) == 0
    assert verify_onnx(path, network, torch.rand(10, 3, 13, 11)).max_difference < 1e-5


def test_input_and_output_follow_the_contract(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "bytes.onnx"
    metadata = dataclasses.replace(
        exported.metadata,
        dtype="uint8",
        layout="NHWC",
        value_range="0..255",
        output="probabilities",
    )
    export_onnx(exported.network, path, example_size=(3, 32, 32), metadata=metadata)
    graph = load_proto(path).graph
    (images,), (outputs,) = graph.input, graph.output
    assert (images.type.tensor_type.elem_type, axes(images)) == (
        onnx.TensorProto.UINT8,
        ["batch", 32, 32, 3],
    )
    assert (outputs.name, axes(outputs)) == ("probabilities", ["batch", 5])
    assert verify_onnx(path, exported.network, exported.images).num_inputs == 48
    plain, told = OnnxNetwork(exported.path), OnnxNetwork(path)
    assert told.image_size == (3, 32, 32)
    # NHWC bytes as a consumer has them, without any division.
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    raw = exported.images.numpy().transpose(0, 2, 3, 1)
    (shares,) = session.run(None, {"images": raw})
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(shares, plain.probabilities(exported.images), atol=1e-6)
    np.testing.assert_allclose(shares, told.predict(exported.images / 255), atol=1e-6)


def test_sidecar_tells_what_the_metadata_tell(exported: Exported) -> None:
    content = json.loads(sidecar(exported.path))
    assert content["file"] == "best.onnx"
    assert content["inputs"] == {"images": ["batch", 3, 32, 32]}
    assert content["outputs"] == {"logits": ["batch", 5]}
    assert content["class_names"] == ["a", "b", "c", "d", "e"]
    assert content["pictures"] == {
        "size": [32, 32],
        "resize": "stretch",
        "shorter_side": None,
        "interpolation": "bilinear",
        "converts_color": True,
    }
    assert content["genotype"]["skeleton"] == "darts"


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
