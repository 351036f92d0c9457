"""Opens an exported file in onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from darts_ray.errors import PredictionError
from darts_ray.export.consumer.contract import ModelMetadata


def open_session(path: Path, *, num_threads: int | None = None, simulated: bool = False) -> Any:
    """Return an `onnxruntime.InferenceSession` on the CPU that logs errors only.

    Args:
        path: the file.
        num_threads: of one run; None: onnxruntime's choice.
        simulated: whether an int8 file computes in float between its roundings, as it is written,
            and not with this CPU's integer instructions.

    Raises:
        PredictionError: the file is missing or onnxruntime cannot read it.
    """
    import onnxruntime

    if not path.is_file():
        raise PredictionError(f"{path} does not exist; export a network first.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if simulated:
        none = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = none
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base of their own
        raise PredictionError(
            f"onnxruntime cannot read {path}: {error} The file is cut short or is no ONNX file:"
            " copy it again, or write it again with `darts-ray export`."
        ) from error


def read_metadata(session: Any, path: Path) -> ModelMetadata:
    """Return what an open file says about itself.

    Raises:
        PredictionError: darts_ray has not written it.
    """
    try:
        return ModelMetadata.from_props(session.get_modelmeta().custom_metadata_map)
    except PredictionError as error:
        raise PredictionError(f"{path}: {error}") from error


def is_language_model(path: Path) -> bool:
    """Tell whether a file reads tokens (a language model) rather than images.

    Raises:
        PredictionError: the file is missing, not valid ONNX, or not exported by darts_ray.
    """
    session = open_session(path, num_threads=1)
    read_metadata(session, path)
    return [value.name for value in session.get_inputs()] == ["tokens", "hidden"]
