"""int8 files for CPUs: static quantisation with real images, and an accuracy gate."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from darts_ray.errors import ExportError
from darts_ray.export.consumer.images import OnnxNetwork, accuracy_onnx
from darts_ray.export.graph import fold_concat_batch_norms
from darts_ray.export.onnx_file import load_proto, save_proto

_CALIBRATION_BATCH = 32

Target = Literal["x86", "arm", "tensorrt"]


@dataclass(frozen=True)
class _Convention:
    """How a target wants its numbers; `text` says so in the file's metadata.

    A target that is not this CPU is `simulated` where the file is judged: an x86 without VNNI adds
    8-bit products in 16 bits, which overflows where the target does not.
    """

    text: str
    activations: str
    reduce_range: bool = False
    simulated: bool = True
    options: Mapping[str, bool] = field(default_factory=dict)


_CONVENTIONS: dict[Target, _Convention] = {
    # On x86 the kernels for uint8 activations are about three times as fast as for int8 ones.
    # Without VNNI they add pairs of products in 16 bits, which overflows with 8-bit weights; with
    # 7 bits the accuracy measured here holds on every CPU.
    "x86": _Convention(
        "int8 weights (7 bits), uint8 activations", "QUInt8", reduce_range=True, simulated=False
    ),
    # ARM's dot products multiply signed by signed bytes and never overflow.
    "arm": _Convention("int8 weights, int8 activations", "QInt8"),
    # TensorRT takes symmetric int8 only, biases in float, and weights behind Q/DQ pairs.
    "tensorrt": _Convention(
        "symmetric int8 weights and activations, float biases",
        "QInt8",
        options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "AddQDQPairToWeight": True,
            "QuantizeBias": False,
            "DedicatedQDQPair": True,
        },
    ),
}


@dataclass(frozen=True)
class QuantizeResult:
    """Held-out accuracy (0..1) and file size before and after."""

    accuracy: float
    int8_accuracy: float
    size_bytes: int
    int8_size_bytes: int


def quantize_onnx(
    path: Path,
    out: Path,
    *,
    calibration: Tensor,
    images: Tensor,
    labels: Tensor,
    max_accuracy_drop: float,
    target: Target = "x86",
) -> QuantizeResult:
    """Write an int8 (QDQ, per channel) version of an exported image network.

    Args:
        path: the float file.
        out: the int8 file; written only if it passes the gate.
        calibration: real images (N, channels, height, width), uint8 or float in 0..1, that set
            the ranges of activations; not those the file is judged on.
        images: other images of the same format, on which both files are judged.
        labels: their classes (N,).
        max_accuracy_drop: the largest accepted loss of accuracy, in 0..1.
        target: whose conventions the file follows, see `_CONVENTIONS`.

    Raises:
        ExportError: accuracy drops by more than that; `out` is then not written.
    """
    metadata = OnnxNetwork(path).metadata
    accuracy = accuracy_onnx(path, images, labels)
    with tempfile.TemporaryDirectory() as temporary:
        draft = Path(temporary) / "int8.onnx"
        _quantize(path, draft, calibration, Path(temporary), target)
        extra = {**metadata.extra, "quantization": _CONVENTIONS[target].text}
        proto = load_proto(draft)
        _drop_unused_domains(proto)
        save_proto(proto, draft, replace(metadata, extra=extra))
        simulated = _CONVENTIONS[target].simulated
        int8_accuracy = accuracy_onnx(draft, images, labels, simulated=simulated)
        if accuracy - int8_accuracy > max_accuracy_drop:
            raise ExportError(
                f"int8 costs too much accuracy: {accuracy:.4f} -> {int8_accuracy:.4f} on"
                f" {len(labels)} images; allowed is a drop of {max_accuracy_drop:g}"
                f" (export.max_accuracy_drop). Use the float network, or calibrate with more"
                f" images than {len(calibration)}."
            )
        temporary_out = out.with_name(f".{out.name}.tmp")
        temporary_out.write_bytes(draft.read_bytes())
        temporary_out.replace(out)
    return QuantizeResult(accuracy, int8_accuracy, path.stat().st_size, out.stat().st_size)


class _Images:
    """onnxruntime's CalibrationDataReader: feeds until there is None."""

    def __init__(self, network: OnnxNetwork, images: Tensor) -> None:
        self._network = network
        self._batches = iter(torch.split(images, _CALIBRATION_BATCH))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": self._network.prepare(batch)}


def _quantize(path: Path, out: Path, calibration: Tensor, folder: Path, target: Target) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    proto = load_proto(path)
    fold_concat_batch_norms(proto)
    prepared = folder / "prepared.onnx"
    quant_pre_process(proto, prepared)
    convention = _CONVENTIONS[target]
    quantize_static(
        prepared,
        out,
        _Images(OnnxNetwork(path), calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=getattr(QuantType, convention.activations),
        weight_type=QuantType.QInt8,
        reduce_range=convention.reduce_range,
        extra_options=dict(convention.options),
    )


def _drop_unused_domains(proto: Any) -> None:
    """Forget the operator sets that onnxruntime declares whether they are used or not."""
    used = {node.domain for node in proto.graph.node}
    kept = [entry for entry in proto.opset_import if entry.domain in used]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
