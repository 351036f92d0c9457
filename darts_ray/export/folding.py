"""Batch normalisation behind a concat of convolutions, folded into them (exact).

Only FactorizedReduce has it: BN(concat(conv(x), conv(x shifted))). Exporter and quantiser fold a
BN that follows one convolution, but not this one, which would stay float between int8 layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def fold_concat_batch_norms(proto: Any) -> int:
    """Fold, in place, every BN whose input is a concat of convolutions that nobody else reads.

    With `scale = gamma / sqrt(var + eps)`, `BN(conv(x))` is a convolution with the kernel
    `scale * kernel` and the bias `beta + scale * (bias - mean)`, per output channel; the concat's
    inputs take their slices of the channels.

    Args:
        proto: an `onnx.ModelProto` for inference.

    Returns:
        The number of BNs that are gone.
    """
    from onnx import numpy_helper

    graph = proto.graph
    producers = {output: node for node in graph.node for output in node.output}
    uses: dict[str, int] = {}
    for name in [i for node in graph.node for i in node.input] + [o.name for o in graph.output]:
        uses[name] = uses.get(name, 0) + 1
    tensors = {tensor.name: tensor for tensor in graph.initializer}

    def value(name: str) -> Any:
        return numpy_helper.to_array(tensors[name]).astype(np.float64)

    def is_private_conv(name: str) -> bool:
        node = producers.get(name)
        if node is None or node.op_type != "Conv":
            return False
        return uses[name] == 1 and all(i in tensors for i in node.input[1:])

    folded = 0
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        concat = producers.get(norm.input[0])
        if concat is None or concat.op_type != "Concat" or uses[norm.input[0]] > 1:
            continue
        if _attribute(concat, "axis", None) != 1 or not all(map(is_private_conv, concat.input)):
            continue
        gamma, beta, mean, variance = (value(name) for name in norm.input[1:5])
        scale = gamma / np.sqrt(variance + _attribute(norm, "epsilon", 1e-5))
        start = 0
        for name in concat.input:
            conv = producers[name]
            kernel = value(conv.input[1])
            part = slice(start, start + len(kernel))
            bias = value(conv.input[2]) if len(conv.input) > 2 else np.zeros(len(kernel))
            bias = beta[part] + scale[part] * (bias - mean[part])
            kernel = scale[part].reshape(-1, *[1] * (kernel.ndim - 1)) * kernel
            # New names: another node may read the tensors that the convolution had.
            names = (f"{name}_folded_kernel", f"{name}_folded_bias")
            for tensor_name, array in zip(names, (kernel, bias), strict=True):
                tensor = numpy_helper.from_array(array.astype(np.float32), tensor_name)
                graph.initializer.append(tensor)
            conv.input[:] = [conv.input[0], *names]
            start = part.stop
        concat.output[0] = norm.output[0]
        graph.node.remove(norm)
        folded += 1
    _drop_unused_tensors(graph)
    return folded


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def _drop_unused_tensors(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
