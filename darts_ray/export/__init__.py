"""The deployable network: ONNX export, verification, quantisation, benchmark, and a consumer.

Everything is imported on first use: writing a file needs torch and onnx, using one
(`OnnxNetwork`, `OnnxLanguageModel`) only onnxruntime, numpy and Pillow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darts_ray.export.consumer.benchmark import (
        BenchmarkResult,
        benchmark_files,
        benchmark_onnx,
    )
    from darts_ray.export.consumer.contract import ModelMetadata, PictureRule, TextRule
    from darts_ray.export.consumer.images import OnnxNetwork, Prediction, accuracy_onnx
    from darts_ray.export.consumer.language import OnnxLanguageModel
    from darts_ray.export.example import example_picture
    from darts_ray.export.onnx_file import export_onnx, export_recurrent_onnx, load_proto
    from darts_ray.export.program import export_program
    from darts_ray.export.quantize import QuantizeResult, quantize_onnx
    from darts_ray.export.unrolled import unroll_onnx
    from darts_ray.export.verify import VerifyResult, verify_onnx, verify_recurrent_onnx

__all__ = [
    "BenchmarkResult",
    "ModelMetadata",
    "OnnxLanguageModel",
    "OnnxNetwork",
    "PictureRule",
    "Prediction",
    "QuantizeResult",
    "TextRule",
    "VerifyResult",
    "accuracy_onnx",
    "benchmark_files",
    "benchmark_onnx",
    "example_picture",
    "export_onnx",
    "export_program",
    "export_recurrent_onnx",
    "load_proto",
    "quantize_onnx",
    "unroll_onnx",
    "verify_onnx",
    "verify_recurrent_onnx",
]

_PLACES = {
    "consumer.benchmark": ("BenchmarkResult", "benchmark_files", "benchmark_onnx"),
    "consumer.contract": ("ModelMetadata", "PictureRule", "TextRule"),
    "consumer.images": ("OnnxNetwork", "Prediction", "accuracy_onnx"),
    "consumer.language": ("OnnxLanguageModel",),
    "example": ("example_picture",),
    "onnx_file": ("export_onnx", "export_recurrent_onnx", "load_proto"),
    "program": ("export_program",),
    "quantize": ("QuantizeResult", "quantize_onnx"),
    "unrolled": ("unroll_onnx",),
    "verify": ("VerifyResult", "verify_onnx", "verify_recurrent_onnx"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    for module, names in _PLACES.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
