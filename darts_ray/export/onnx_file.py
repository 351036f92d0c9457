"""From a trained network to one ONNX file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from darts_ray.errors import DartsError, ExportError
from darts_ray.export.inference import ImageInference, RecurrentStep
from darts_ray.export.metadata import ModelMetadata

_CHATTY = ("torch.onnx", "torch.fx", "onnxscript", "onnx_ir")


def export_onnx(
    network: nn.Module,
    path: Path,
    *,
    example_size: tuple[int, int, int],
    metadata: ModelMetadata,
    opset: int = 20,
) -> None:
    """Write an image network as one ONNX file.

    Input `images`: float32 (batch, channels, height, width), RGB in 0..1, any batch size.
    Output `logits`: float32 (batch, classes). The graph normalises with the metadata's mean and
    std; the auxiliary head and drop path are not in it.

    Args:
        network: maps normalised images to logits; left as it was found.
        path: the file, replaced atomically.
        example_size: (channels, height, width) of an image.
        metadata: becomes the file's `metadata_props`.
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
    proto = _export(
        ImageInference(network, metadata),
        # Not batch 1, which the exporter takes for a constant.
        (torch.rand(2, *example_size),),
        inputs={"images": {0: "batch"}},
        outputs=("logits",),
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


def save_proto(proto: Any, path: Path, metadata: ModelMetadata) -> None:
    """Write a model with its metadata in one file, atomically."""
    import onnx

    onnx.helper.set_model_props(proto, metadata.to_props())
    temporary = path.with_name(f".{path.name}.tmp")
    onnx.save_model(proto, str(temporary), save_as_external_data=False)
    temporary.replace(path)


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
                opset_version=opset,
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
        ir_version=step.ir_version,
        producer_name=step.producer_name,
        producer_version=step.producer_version,
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
