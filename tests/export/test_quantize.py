from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from darts_ray.errors import ExportError
from darts_ray.export import OnnxNetwork, accuracy_onnx, load_proto, quantize_onnx
from tests.export.conftest import Exported


def operators(path: Path) -> list[str]:
    return [node.op_type for node in load_proto(path).graph.node]


def test_int8_file_keeps_accuracy_and_metadata(exported: Exported, tmp_path: Path) -> None:
    images = exported.images
    labels = torch.tensor(OnnxNetwork(exported.path).predict(images).argmax(1))
    out = tmp_path / "int8.onnx"
    result = quantize_onnx(
        exported.path,
        out,
        calibration=images[:24],
        images=images[24:],
        labels=labels[24:],
        max_accuracy_drop=0.25,
    )
    assert result.accuracy == 1.0  # the labels are the float file's own predictions
    assert result.int8_accuracy == accuracy_onnx(out, images[24:], labels[24:]) >= 0.75
    assert result.int8_size_bytes == out.stat().st_size
    kinds = operators(out)
    assert kinds.count("QuantizeLinear") > kinds.count("Conv") > 0
    assert "BatchNormalization" not in kinds
    metadata = OnnxNetwork(out).metadata
    assert metadata.genotype_json == exported.metadata.genotype_json
    assert "int8" in metadata.extra["quantization"]
    assert {entry.domain for entry in load_proto(out).opset_import} == {""}
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]


def test_gate_refuses_an_int8_file_that_costs_accuracy(exported: Exported, tmp_path: Path) -> None:
    images = exported.images
    labels = torch.tensor(OnnxNetwork(exported.path).predict(images).argmax(1))
    black = torch.zeros(8, 3, 32, 32)  # ranges of activations that real images exceed
    with pytest.raises(ExportError, match=r"1.0000 -> 0.\d+ on 48 images"):
        quantize_onnx(
            exported.path,
            tmp_path / "int8.onnx",
            calibration=black,
            images=images,
            labels=labels,
            max_accuracy_drop=0.01,
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "activation", "symmetric"),
    [("x86", np.uint8, False), ("arm", np.int8, False), ("tensorrt", np.int8, True)],
)
def test_each_target_gets_its_own_numbers(
    exported: Exported, tmp_path: Path, target: Any, activation: type, symmetric: bool
) -> None:
    images = exported.images
    labels = torch.tensor(OnnxNetwork(exported.path).predict(images).argmax(1))
    out = tmp_path / "int8.onnx"
    result = quantize_onnx(
        exported.path,
        out,
        calibration=images[:24],
        images=images[24:],
        labels=labels[24:],
        max_accuracy_drop=0.5,
        target=target,
    )
    # whatever integer instructions this CPU has
    assert result.int8_accuracy >= 0.75
    graph = load_proto(out).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    zeros = [tensors[n.input[2]] for n in graph.node if n.op_type == "QuantizeLinear"]
    assert {zero.dtype for zero in zeros} >= {np.dtype(activation)}
    assert all((zero == 0).all() for zero in zeros) is symmetric
    weights = [v for name, v in tensors.items() if v.dtype == np.int8 and v.ndim == 4]
    if target == "x86":
        # 7 bits, whose products cannot overflow 16 bits in pairs.
        assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) <= 64
    elif target == "tensorrt":
        assert not weights  # float behind Q/DQ pairs
        assert not [v for v in tensors.values() if v.dtype == np.int32 and v.ndim == 1]
