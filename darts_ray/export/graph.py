"""Rewrites of an exported graph that change its result by rounding at most.

Batch normalisation behind a concat of convolutions is folded into them. Only FactorizedReduce has
it: BN(concat(conv(x), conv(x shifted))). Exporter and quantiser fold a BN that follows one
convolution, but not this one, which would stay float between int8 layers.

The mean over height and width becomes a GlobalAveragePool, which every runtime knows; ReduceMean
changed its form with opset 18.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# ONNX's way to say "to the end" in a slice.
_FAR = np.iinfo(np.int64).max


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


def pool_globally(proto: Any) -> int:
    """Replace, in place, every mean over the axes 2 and 3 by a GlobalAveragePool.

    Args:
        proto: an `onnx.ModelProto` with the shapes of its values; only those of four axes count.

    Returns:
        The number of means that were replaced.
    """
    from onnx import helper, numpy_helper

    graph = proto.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    values = (*graph.value_info, *graph.input)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    replaced = 0
    for place, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in tensors:
            continue
        axes = sorted(numpy_helper.to_array(tensors[node.input[1]]).tolist())
        if axes not in ([2, 3], [-2, -1]) or ranks.get(node.input[0]) != 4:
            continue
        source, target = node.input[0], node.output[0]
        keeps_axes = _attribute(node, "keepdims", 1) == 1
        pooled = target if keeps_axes else f"{target}_pooled"
        nodes = [helper.make_node("GlobalAveragePool", [source], [pooled], f"{node.name}_pool")]
        if not keeps_axes:
            nodes.append(helper.make_node("Flatten", [pooled], [target], f"{node.name}_flat"))
        graph.node.remove(node)
        for offset, new in enumerate(nodes):
            graph.node.insert(place + offset, new)
        replaced += 1
    _drop_unused_tensors(graph)
    return replaced


def stride_pointwise(proto: Any) -> int:
    """Let, in place, 1x1 convolutions of every second pixel have the stride themselves.

    Networks choose the pixels first, `x[:, :, i::2, j::2]`, for reasons of training. ncnn knows no
    slice with a step, and its converter drops such slices without a word. Where i or j is 1, a
    slice without a step remains.

    Args:
        proto: an `onnx.ModelProto` with the shapes of its values.

    Returns:
        The number of convolutions that were changed.
    """
    from onnx import helper, numpy_helper

    graph = proto.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    sizes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim][2:]
        for value in (*graph.value_info, *graph.input)
    }
    changed = 0
    for conv in [node for node in graph.node if node.op_type == "Conv"]:
        kernel, pads = tensors.get(conv.input[1]), list(_attribute(conv, "pads", (0, 0, 0, 0)))
        is_plain = set(_attribute(conv, "strides", (1, 1))) == {1} and not any(pads[:2])
        if kernel is None or list(kernel.dims[2:]) != [1, 1] or not is_plain:
            continue
        source = conv.input[0]
        first: dict[int, int] = {}
        while (step := _every_second(producers.get(source), tensors)) and not step.keys() & first:
            first |= step
            source = producers[source].input[0]
        size = sizes.get(source, [])
        # A pad behind the chosen pixels is one behind all of them, if the last one is not chosen.
        fits = len(size) == 2 and all(
            not pad or (length and (length - first.get(axis, 0)) % 2 == 0)
            for axis, length, pad in zip((2, 3), size, pads[2:], strict=True)
        )
        if first.keys() != {2, 3} or not fits:
            continue
        if any(first.values()):
            shifted = f"{conv.output[0]}_shifted"
            parts = {"from": [first[2], first[3]], "to": [_FAR, _FAR], "axes": [2, 3]}
            for part, values in parts.items():
                constant = numpy_helper.from_array(np.array(values), f"{shifted}_{part}")
                graph.initializer.append(constant)
            inputs = [source, *(f"{shifted}_{part}" for part in parts)]
            shift = helper.make_node("Slice", inputs, [shifted], shifted)
            graph.node.insert(list(graph.node).index(conv), shift)
            source = shifted
        conv.input[0] = source
        for attribute in [a for a in conv.attribute if a.name == "strides"]:
            conv.attribute.remove(attribute)
        conv.attribute.append(helper.make_attribute("strides", [2, 2]))
        changed += 1
    _drop_unread_slices(graph)
    _drop_unused_tensors(graph)
    return changed


def pad_before_pointwise(proto: Any) -> int:
    """Give, in place, every padded 1x1 convolution its padding in a node of its own.

    torch's exporter merges a pad into the convolution behind it. OpenCV (4.14 and 5.0, both
    engines) then reads past its input: the logits are silently wrong.

    Args:
        proto: an `onnx.ModelProto`.

    Returns:
        The number of convolutions that were changed.
    """
    from onnx import helper, numpy_helper

    graph = proto.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    changed = 0
    for place, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "Conv" or node.input[1] not in tensors:
            continue
        pads = list(_attribute(node, "pads", ()))
        if set(tensors[node.input[1]].dims[2:]) != {1} or not any(pads):
            continue
        half = len(pads) // 2
        both = np.array([0, 0, *pads[:half], 0, 0, *pads[half:]], np.int64)
        names = f"{node.output[0]}_pads", f"{node.output[0]}_padded"
        graph.initializer.append(numpy_helper.from_array(both, names[0]))
        # The mode is ONNX's default; ncnn's converter wants to read it.
        pad = helper.make_node(
            "Pad", [node.input[0], names[0]], [names[1]], names[1], mode="constant"
        )
        graph.node.insert(place, pad)
        node.input[0] = names[1]
        for attribute in node.attribute:
            if attribute.name == "pads":
                attribute.ints[:] = [0] * len(pads)
        changed += 1
    return changed


def _every_second(node: Any, tensors: Mapping[str, Any]) -> dict[int, int]:
    """Return where a slice of every second pixel begins, by axis; empty: it is no such slice."""
    from onnx import numpy_helper

    if node is None or node.op_type != "Slice" or not all(i in tensors for i in node.input[1:]):
        return {}
    read = [numpy_helper.to_array(tensors[name]).tolist() for name in node.input[1:]]
    if len(read) < 4:  # without steps
        return {}
    starts, ends, axes, steps = read
    is_whole = all(step == 2 for step in steps) and min(ends) >= np.iinfo(np.int32).max
    if not is_whole or not set(axes) <= {2, 3} or not set(starts) <= {0, 1}:
        return {}
    return dict(zip(axes, starts, strict=True))


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def _drop_unread_slices(graph: Any) -> None:
    """Remove slices whose outputs nobody reads any more, the last of a chain first."""
    uses = Counter(_read_names(graph))
    for node in reversed([node for node in graph.node if node.op_type == "Slice"]):
        if not any(uses[name] for name in node.output):
            uses.subtract(node.input)
            graph.node.remove(node)


def _drop_unused_tensors(graph: Any) -> None:
    used = set(_read_names(graph))
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _read_names(graph: Any) -> Iterator[str]:
    """Yield what nodes read, those inside of loops and branches too."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for part in (attribute.g, *attribute.graphs):
                yield from _read_names(part)
    yield from (value.name for value in graph.output)
