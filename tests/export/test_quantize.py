from pathlib import Path

import numpy as np
import pytest
import torch

from darts_ray.errors import ExportError
from darts_ray.export import OnnxNetwork, accuracy_onnx, load_proto, quantize_onnx, verify_onnx
from darts_ray.export.folding import fold_concat_batch_norms
from darts_ray.export.onnx_file import save_proto
from tests.export.conftest import Exported


def operators(path: Path) -> list[str]:
    return [node.op_type for node in load_proto(path).graph.node]


def test_folding_batch_norm_into_both_halves_of_factorized_reduce_is_exact(
    exported: Exported, tmp_path: Path
) -> None:
    # The exporter folds every BN that follows one convolution. What is left is the
    # FactorizedReduce of the one cell that comes after a reduction cell (layers 1 and 2 of 3).
    before = operators(exported.path).count("BatchNormalization")
    assert before == 1
    proto = load_proto(exported.path)
    assert fold_concat_batch_norms(proto) == before
    path = tmp_path / "folded.onnx"
    save_proto(proto, path, exported.metadata)
    assert "BatchNormalization" not in operators(path)
    # Exact up to float32 rounding: valid, and as close to torch as the file was before.
    assert verify_onnx(path, exported.network, exported.images).max_difference < 1e-5
    np.testing.assert_allclose(
        OnnxNetwork(path).predict(exported.images),
        OnnxNetwork(exported.path).predict(exported.images),
        atol=1e-5,
    )


def test_a_concat_that_others_read_is_left_alone(exported: Exported) -> None:
    proto = load_proto(exported.path)
    norms = [node for node in proto.graph.node if node.op_type == "BatchNormalization"]
    for norm in norms:
        proto.graph.output.add(name=norm.input[0])
    assert fold_concat_batch_norms(proto) == 0
    assert sum(n.op_type == "BatchNormalization" for n in proto.graph.node) == len(norms)


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
