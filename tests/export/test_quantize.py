from pathlib import Path

import pytest
import torch

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
