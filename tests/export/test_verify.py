from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from darts_ray.errors import ExportError
from darts_ray.export import OnnxNetwork, load_proto, verify_onnx
from tests.export.conftest import Exported, coloured_images


def with_changed_bias(exported: Exported, path: Path, delta: list[float]) -> Path:
    """Copy the file and add `delta` to the classifier's bias, that is to the logits."""
    proto = load_proto(exported.path)
    (gemm,) = [node for node in proto.graph.node if node.op_type == "Gemm"]
    (bias,) = [tensor for tensor in proto.graph.initializer if tensor.name == gemm.input[2]]
    changed = numpy_helper.to_array(bias) + numpy_helper.to_array(bias).dtype.type(delta)
    bias.CopyFrom(numpy_helper.from_array(changed, bias.name))
    onnx.save_model(proto, str(path))
    return path


def test_export_agrees_with_torch(exported: Exported) -> None:
    result = verify_onnx(exported.path, exported.network, exported.images)
    assert result.batch_sizes == (1, 2, 7)
    assert 0 <= result.max_difference < 1e-5


def test_a_shifted_logit_is_found(exported: Exported, tmp_path: Path) -> None:
    path = with_changed_bias(exported, tmp_path / "a.onnx", [0, 0, 2e-4, 0, 0])
    with pytest.raises(ExportError, match=r"differ from torch by 2.0\de-04 .batch 1.*1e-04"):
        verify_onnx(path, exported.network, exported.images)
    # The limit is the caller's.
    verify_onnx(path, exported.network, exported.images, tolerance=1e-3)


def test_another_class_is_found_whatever_the_tolerance(exported: Exported, tmp_path: Path) -> None:
    path = with_changed_bias(exported, tmp_path / "a.onnx", [0, 0, 1e3, 0, 0])
    with pytest.raises(ExportError, match="another class"):
        verify_onnx(path, exported.network, exported.images, tolerance=1e6)


def test_nan_is_found(exported: Exported, tmp_path: Path) -> None:
    path = with_changed_bias(exported, tmp_path / "a.onnx", [float("nan")] * 5)
    with pytest.raises(ExportError, match="nan"):
        verify_onnx(path, exported.network, exported.images)


def test_an_invalid_graph_is_found(exported: Exported, tmp_path: Path) -> None:
    proto = load_proto(exported.path)
    proto.graph.node[2].input[0] = "nowhere"
    onnx.save_model(proto, str(tmp_path / "a.onnx"))
    with pytest.raises(ExportError, match="not valid ONNX"):
        verify_onnx(tmp_path / "a.onnx", exported.network, exported.images)


def test_seven_images_are_needed(exported: Exported) -> None:
    with pytest.raises(ExportError, match="needs 7 images, not 6"):
        verify_onnx(exported.path, exported.network, exported.images[:6])


def test_all_images_are_looked_at_and_each_batch_sees_others(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    run = OnnxNetwork.run

    def noting(self: OnnxNetwork, batch: np.ndarray) -> np.ndarray:
        seen.append(batch)
        return run(self, batch)

    monkeypatch.setattr(OnnxNetwork, "run", noting)
    images = coloured_images(20)
    assert verify_onnx(exported.path, exported.network, images).num_inputs == 20
    assert [len(batch) for batch in seen] == [1, 2, 7, 1, 2, 7]
    everything = np.concatenate(seen)
    np.testing.assert_array_equal(everything, images.numpy().astype(np.float32) / 255)


def test_a_fault_in_the_last_image_is_found(exported: Exported, tmp_path: Path) -> None:
    """The file is right for all images but a bright last one: its bias depends on brightness."""
    proto = load_proto(exported.path)
    graph = proto.graph
    (gemm,) = [node for node in graph.node if node.op_type == "Gemm"]
    gemm.output[0] = "before"
    limit, axes = np.array(0.95, np.float32), np.array([1, 2, 3])
    graph.initializer.extend(
        [numpy_helper.from_array(limit, "limit"), numpy_helper.from_array(axes, "all_axes")]
    )
    graph.node.extend(
        [
            helper.make_node("ReduceMin", ["images", "all_axes"], ["darkest"], keepdims=0),
            helper.make_node("Greater", ["darkest", "limit"], ["is_bright"]),
            helper.make_node("Cast", ["is_bright"], ["fault"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["fault", "one"], ["column"]),
            helper.make_node("Add", ["before", "column"], ["logits"]),
        ]
    )
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    onnx.save_model(proto, str(tmp_path / "a.onnx"))
    images = coloured_images(31)
    verify_onnx(tmp_path / "a.onnx", exported.network, images)
    bright = torch.cat([images, torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)])
    with pytest.raises(ExportError, match="differ from torch"):
        verify_onnx(tmp_path / "a.onnx", exported.network, bright)
