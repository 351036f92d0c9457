"""The deployable network: ONNX export, verification, quantisation, benchmark, and a reader.

onnx and onnxruntime are imported on first use, so that importing this room costs nothing.
"""

from darts_ray.export.benchmark import BenchmarkResult, benchmark_onnx
from darts_ray.export.metadata import ModelMetadata
from darts_ray.export.onnx_file import export_onnx, export_recurrent_onnx, load_proto
from darts_ray.export.quantize import QuantizeResult, quantize_onnx
from darts_ray.export.reader import OnnxNetwork, accuracy_onnx
from darts_ray.export.verify import VerifyResult, verify_onnx, verify_recurrent_onnx

__all__ = [
    "BenchmarkResult",
    "ModelMetadata",
    "OnnxNetwork",
    "QuantizeResult",
    "VerifyResult",
    "accuracy_onnx",
    "benchmark_onnx",
    "export_onnx",
    "export_recurrent_onnx",
    "load_proto",
    "quantize_onnx",
    "verify_onnx",
    "verify_recurrent_onnx",
]
