from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from darts_ray.errors import ExportError
from darts_ray.export import load_proto, verify_onnx
from tests.export.conftest import Exported


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
