"""A language model's file without its loop: for one length of text, as OpenCV can read it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from darts_ray.errors import ExportError
from darts_ray.export.consumer.contract import ModelMetadata
from darts_ray.export.onnx_file import load_proto, save_proto


def unroll_onnx(path: Path, out: Path, length: int) -> None:
    """Write a language model with its loop over time unrolled.

    Inputs and outputs are those of `export_recurrent_onnx`, except that `tokens` and `log_probs`
    have `length` rows; a longer text goes piece by piece, and its last piece is filled up. Weights
    are in the file once.

    Args:
        path: what `export_recurrent_onnx` wrote.
        out: the file, replaced atomically.
        length: words per run.

    Raises:
        ExportError: the file is no language model with a loop.
    """
    from onnx import helper, numpy_helper

    proto = load_proto(path)
    if [node.op_type for node in proto.graph.node] != ["Scan"]:
        raise ExportError(f"{path} is no language model with a loop over time.")
    (body,) = (a.g for a in proto.graph.node[0].attribute if a.name == "body")
    hidden_in, word_in = (value.name for value in body.input)
    hidden_out, log_probs_out = (value.name for value in body.output)
    constants = [numpy_helper.from_array(np.array([0]), "time_axis")]
    nodes, rows, hidden = [], [], "hidden"
    for time in range(length):
        constants.append(numpy_helper.from_array(np.array(time), f"time_{time}"))
        nodes.append(
            helper.make_node("Gather", ["tokens", f"time_{time}"], [f"word_{time}"], axis=0)
        )
        names = {hidden_in: hidden, word_in: f"word_{time}"}
        names |= {name: f"{name}_{time}" for node in body.node for name in node.output}
        for node in body.node:
            step = copy.deepcopy(node)
            step.name = f"{node.name}_{time}"
            step.input[:] = [names.get(name, name) for name in node.input]
            step.output[:] = [names[name] for name in node.output]
            nodes.append(step)
        hidden, row = names[hidden_out], f"row_{time}"
        # (batch, words) to (1, batch, words)
        nodes.append(helper.make_node("Unsqueeze", [names[log_probs_out], "time_axis"], [row]))
        rows.append(row)
    nodes.append(helper.make_node("Concat", rows, ["log_probs"], axis=0))
    nodes.append(helper.make_node("Identity", [hidden], ["next_hidden"]))
    graph = proto.graph
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    for value in (graph.input[0], graph.output[0]):
        _fix_first_axis(value, length)
    metadata = ModelMetadata.from_props({p.key: p.value for p in proto.metadata_props})
    save_proto(proto, out, metadata)


def _fix_first_axis(value: Any, length: int) -> None:
    axis = value.type.tensor_type.shape.dim[0]
    axis.Clear()
    axis.dim_value = length
