"""From a trained network to one ONNX file."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import darts_ray
from darts_ray.errors import DartsError, ExportError
from darts_ray.export.consumer.contract import ModelMetadata
from darts_ray.export.graph import (
    fold_concat_batch_norms,
    pad_before_pointwise,
    pool_globally,
    stride_pointwise,
)
from darts_ray.export.inference import DeployedImages, RecurrentStep

_CHATTY = ("torch.onnx", "torch.fx", "onnxscript", "onnx_ir")
_LOWEST_FROM_TORCH = 18


def export_onnx(
    network: nn.Module,
    path: Path,
    *,
    example_size: tuple[int, int, int],
    metadata: ModelMetadata,
    opset: int = 20,
) -> None:
    """Write an image network as one ONNX file.

    Input `images`, any batch size: float32 (batch, channels, height, width) in 0..1, or with the
    metadata's `dtype` uint8 (batch, height, width, channels) in 0..255. Output `logits` or
    `probabilities`: float32 (batch, classes). The graph normalises with the metadata's mean and
    std; the auxiliary head and drop path are not in it.

    Args:
        network: maps normalised images to logits; left as it was found.
        path: the file, replaced atomically.
        example_size: (channels, height, width) of an image.
        metadata: the contract; becomes the file's `metadata_props`.
        opset: version of the standard operators.

    Raises:
        ExportError: torch cannot export the network, or not at this opset; or the metadata has
            not one mean and std per channel.
    """
    channels = example_size[0]
    if not len(metadata.mean) == len(metadata.std) == channels:
        raise ExportError(
            f"Export needs one mean and std per channel: images have {channels} channels, the"
            f" metadata {len(metadata.mean)} means and {len(metadata.std)} stds."
        )
    module = DeployedImages(network, metadata)
    proto = _export(
        module,
        (module.example(example_size),),
        inputs={"images": {0: "batch"}},
        outputs=(metadata.output,),
        opset=opset,
    )
    save_proto(proto, path, metadata)


def export_recurrent_onnx(
    network: nn.Module, path: Path, *, metadata: ModelMetadata, opset: int = 20
) -> None:
    """Write a `RecurrentNetwork` as one ONNX file, for sequences of any length.

    Inputs `tokens`: int64 (length, batch), and `hidden`: float32 (1, batch, units), zeros at the
    start. Outputs `log_probs`: float32 (length, batch, vocabulary), and `next_hidden`, which is
    the `hidden` of the text that follows. torch unrolls the loop over time to the example's
    length; so one step is exported, and an ONNX Scan runs it over the sequence.

    Args:
        network: left as it was found.
        path: the file, replaced atomically.
        metadata: becomes the file's `metadata_props`; `class_names` is the vocabulary.
        opset: version of the standard operators.

    Raises:
        ExportError: torch cannot export the network, or not at this opset.
    """
    module = RecurrentStep(network)
    step = _export(
        module,
        (module.network.init_hidden(2), torch.zeros(2, dtype=torch.int64)),
        # Names in the body of a Scan must differ from those around it.
        inputs={"step_hidden": {1: "batch"}, "step_words": {0: "batch"}},
        outputs=("step_next_hidden", "step_log_probs"),
        opset=opset,
    )
    save_proto(_scan(step), path, metadata)


def load_proto(path: Path) -> Any:
    """Return the file as an `onnx.ModelProto`."""
    import onnx

    return onnx.load(str(path))


def graph_digest(path: Path) -> bytes:
    """Return the SHA-256 of what a file computes: its operators and weights, not its metadata."""
    proto = load_proto(path)
    opsets = sorted((entry.domain, entry.version) for entry in proto.opset_import)
    digest = hashlib.sha256(repr(opsets).encode())
    digest.update(proto.graph.SerializeToString(deterministic=True))
    for function in proto.functions:
        digest.update(function.SerializeToString(deterministic=True))
    return digest.digest()


def save_proto(proto: Any, path: Path, metadata: ModelMetadata) -> None:
    """Write a model with its contract and who made it in one file, atomically."""
    import onnx

    onnx.helper.set_model_props(proto, metadata.to_props())
    # Not torch's own name: OpenCV's importer takes average pools of "pytorch" files for others.
    proto.producer_name = "darts_ray"
    proto.producer_version = darts_ray.__version__
    proto.model_version = 1
    proto.doc_string = describe(metadata)
    # Runtimes refuse IR versions newer than themselves, whatever is in the file.
    proto.ir_version = onnx.helper.find_min_ir_version_for(list(proto.opset_import))
    temporary = path.with_name(f".{path.name}.tmp")
    onnx.save_model(proto, str(temporary), save_as_external_data=False)
    temporary.replace(path)


def describe(metadata: ModelMetadata) -> str:
    """Return in words what a file takes and gives."""
    gives = metadata.output.replace("_", " ")
    if metadata.pictures is None and metadata.text is not None:
        return (
            f"Language model of {len(metadata.class_names)} words, found by DARTS. tokens: int64"
            f" (length, batch); hidden: zeros at the start, then next_hidden; gives {gives}."
        )
    return (
        f"Classifier of {len(metadata.class_names)} classes, found by DARTS. images:"
        f" {metadata.dtype} {metadata.layout}, {metadata.color}, values {metadata.value_range},"
        f" normalised in the graph; gives {gives}. The metadata darts.* say the rest."
    )


def sidecar(path: Path) -> str:
    """Return the JSON contract of a file, for runtimes that do not show its metadata."""
    graph = (proto := load_proto(path)).graph
    metadata = ModelMetadata.from_props({prop.key: prop.value for prop in proto.metadata_props})

    def shapes(values: Any) -> dict[str, list[int | str]]:
        return {
            value.name: [
                axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim
            ]
            for value in values
        }

    return metadata.to_sidecar(path.name, shapes(graph.input), shapes(graph.output))


def _export(
    module: nn.Module,
    example: tuple[Tensor, ...],
    *,
    inputs: Mapping[str, Mapping[int, str]],
    outputs: Sequence[str],
    opset: int,
) -> Any:
    """Return the module as a ModelProto; `inputs` names the dynamic axes of each argument."""
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                dynamic_shapes={name: dict(axes) for name, axes in inputs.items()},
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=max(opset, _LOWEST_FROM_TORCH),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause: BaseException = error.__cause__ or error
        if isinstance(cause, DartsError):
            raise cause from error  # such as images that are too small: it says what to do
        raise ExportError(
            f"torch cannot export the network to ONNX ({type(cause).__name__}:"
            f" {str(cause).strip()[:500]}). If it holds an operation of your own, write it with"
            " operators that torch.onnx.export supports."
        ) from error
    assert program is not None
    proto = program.model_proto
    fold_concat_batch_norms(proto)
    pool_globally(proto)
    stride_pointwise(proto)
    pad_before_pointwise(proto)
    if opset < _LOWEST_FROM_TORCH:
        proto = _converted(proto, opset)
    written = {entry.domain: entry.version for entry in proto.opset_import}
    if written.get("", opset) != opset:
        # torch keeps the opset it has when it cannot convert, and only logs so.
        raise ExportError(
            f"torch wrote opset {written['']} instead of {opset}: set export.opset to"
            f" {written['']}, or to a higher one."
        )
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output):
        del part.metadata_props[:]  # stack traces with the paths of this machine
    del proto.graph.value_info[:]
    return proto


def _converted(proto: Any, opset: int) -> Any:
    """Return the model at an opset that torch does not write."""
    import onnx

    try:
        return onnx.version_converter.convert_version(proto, opset)
    except (RuntimeError, onnx.checker.ValidationError) as error:
        raise ExportError(
            f"onnx cannot convert the network to opset {opset}: {error} Set export.opset to"
            f" {_LOWEST_FROM_TORCH} or higher."
        ) from error


def _scan(step: Any) -> Any:
    """Wrap the graph of one step into a Scan over time."""
    from onnx import helper

    graph = step.graph
    hidden_type = graph.input[0].type.tensor_type
    state = (1, "batch", hidden_type.shape.dim[2].dim_value)
    vocabulary = graph.output[1].type.tensor_type.shape.dim[1].dim_value
    floats, integers = hidden_type.elem_type, graph.input[1].type.tensor_type.elem_type
    describe = helper.make_tensor_value_info
    # The weights stay outside of the body, which sees them there.
    body = helper.make_graph(graph.node, "step", list(graph.input), list(graph.output))
    inputs, outputs = ["hidden", "tokens"], ["next_hidden", "log_probs"]
    sequence = helper.make_graph(
        [helper.make_node("Scan", inputs, outputs, body=body, num_scan_inputs=1)],
        "sequence",
        inputs=[
            describe("tokens", integers, ("length", "batch")),
            describe("hidden", floats, state),
        ],
        outputs=[
            describe("log_probs", floats, ("length", "batch", vocabulary)),
            describe("next_hidden", floats, state),
        ],
        initializer=list(graph.initializer),
    )
    return helper.make_model(
        sequence,
        opset_imports=list(step.opset_import),
        functions=list(step.functions),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's log lines and warnings off the terminal; errors still raise."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        # torch.export prints the graph it has got so far when it fails.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
