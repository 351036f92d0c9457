"""The rewrites on hand-made graphs, so that what they replace is there to be seen."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from darts_ray.export.graph import (
    fold_concat_batch_norms,
    pad_before_pointwise,
    pool_globally,
    stride_pointwise,
)


def reduction(*, also_read: bool = False) -> onnx.ModelProto:
    """BN(concat(conv(x), conv(x))) with 2 + 3 channels, as FactorizedReduce has it."""
    draw = np.random.default_rng(0)

    def tensor(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(draw.uniform(0.5, 1.5, shape).astype(np.float32), name)

    describe = helper.make_tensor_value_info
    outputs = [describe("y", TensorProto.FLOAT, ["batch", 5, 4, 4])]
    if also_read:
        outputs.append(describe("joined", TensorProto.FLOAT, ["batch", 5, 4, 4]))
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w1"], ["a"]),
            helper.make_node("Conv", ["x", "w2", "b2"], ["b"]),
            helper.make_node("Concat", ["a", "b"], ["joined"], axis=1),
            helper.make_node(
                "BatchNormalization", ["joined", "gamma", "beta", "mean", "var"], ["y"]
            ),
        ],
        "g",
        [describe("x", TensorProto.FLOAT, ["batch", 3, 4, 4])],
        outputs,
        [
            *(tensor("w1", 2, 3, 1, 1), tensor("w2", 3, 3, 1, 1), tensor("b2", 3)),
            *(tensor(name, 5) for name in ("gamma", "beta", "mean", "var")),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def outputs_of(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    output: np.ndarray = session.run(None, {"x": x})[0]
    return output


def test_a_batch_norm_behind_a_concat_goes_into_both_convolutions() -> None:
    proto = reduction()
    x = np.random.default_rng(1).random((3, 3, 4, 4), dtype=np.float32)
    before = outputs_of(proto, x)
    assert fold_concat_batch_norms(proto) == 1
    assert [node.op_type for node in proto.graph.node] == ["Conv", "Conv", "Concat"]
    onnx.checker.check_model(proto, full_check=True)
    np.testing.assert_allclose(outputs_of(proto, x), before, rtol=1e-5)


def test_a_concat_that_others_read_is_left_alone() -> None:
    proto = reduction(also_read=True)
    assert fold_concat_batch_norms(proto) == 0
    assert [node.op_type for node in proto.graph.node][-1] == "BatchNormalization"


def mean(axes: list[int], keepdims: int, shape: list[int | str]) -> onnx.ModelProto:
    rank = len(shape) if keepdims else len(shape) - len(axes)
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=keepdims)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(np.array(axes), "axes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_a_mean_over_height_and_width_becomes_a_pool(axes: list[int], keepdims: int) -> None:
    proto = mean(axes, keepdims, ["batch", 3, 5, 7])
    assert pool_globally(proto) == 1
    assert proto.graph.node[0].op_type == "GlobalAveragePool"
    assert not proto.graph.initializer
    x = np.random.default_rng(0).random((2, 3, 5, 7), dtype=np.float32)
    expected = x.mean((2, 3), keepdims=bool(keepdims))
    np.testing.assert_allclose(outputs_of(proto, x), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("axes", "shape"), [([1, 2], ["batch", 3, 5, 7]), ([-2, -1], ["batch", 3, 5])]
)
def test_other_means_are_left_alone(axes: list[int], shape: list[int | str]) -> None:
    proto = mean(axes, 0, shape)
    assert pool_globally(proto) == 0
    assert ReferenceEvaluator(proto) is not None
    assert [node.op_type for node in proto.graph.node] == ["ReduceMean"]


@pytest.mark.parametrize(("kernel", "pads", "num"), [(1, [0, 0, 1, 1], 1), (3, [1, 1, 1, 1], 0)])
def test_padding_of_a_1x1_convolution_gets_its_own_node(
    kernel: int, pads: list[int], num: int
) -> None:
    weight = np.random.default_rng(0).random((2, 3, kernel, kernel), dtype=np.float32)
    bias = np.array([1, 2], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=pads)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    x = np.random.default_rng(1).random((2, 3, 5, 5), dtype=np.float32)
    before = outputs_of(proto, x)
    assert pad_before_pointwise(proto) == num
    assert [node.op_type for node in proto.graph.node] == ["Pad"] * num + ["Conv"]
    onnx.checker.check_model(proto, full_check=True)
    np.testing.assert_allclose(outputs_of(proto, x), before, rtol=1e-6)


def chosen_pixels(
    size: tuple[int, int], first: tuple[int, int], *, step: int = 2, kernel: int = 1
) -> onnx.ModelProto:
    """conv(x[:, :, i::2, j::2]), with a pad behind an odd side from which 1, 3, ... are chosen."""
    pads = [0, 0, *(side % 2 * start for side, start in zip(size, first, strict=True))]
    values = {"two": [step], "axis2": [2], "axis3": [3], "end": [2**63 - 1]}
    values |= {f"first{axis}": [start] for axis, start in zip("23", first, strict=True)}
    weight = np.random.default_rng(0).random((4, 3, kernel, kernel), dtype=np.float32)
    describe = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["x", "first2", "end", "axis2", "two"], ["rows"]),
            helper.make_node("Slice", ["rows", "first3", "end", "axis3", "two"], ["chosen"]),
            helper.make_node("Conv", ["chosen", "w"], ["y"], pads=pads),
        ],
        "g",
        [describe("x", TensorProto.FLOAT, ["batch", 3, *size])],
        [describe("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(weight, "w"),
            *(numpy_helper.from_array(np.array(value), name) for name, value in values.items()),
        ],
    )
    opset = [helper.make_opsetid("", 20)]
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=opset, ir_version=9)
    )


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (7, 9)])
@pytest.mark.parametrize("first", [(0, 0), (1, 1), (1, 0)])
def test_convolutions_of_every_second_pixel_have_the_stride_themselves(
    size: tuple[int, int], first: tuple[int, int]
) -> None:
    proto = chosen_pixels(size, first)
    x = np.random.default_rng(1).random((2, 3, *size), dtype=np.float32)
    before = outputs_of(proto, x)
    assert before.shape[2:] == tuple((side + 1) // 2 for side in size)
    assert stride_pointwise(proto) == 1
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds == (["Slice", "Conv"] if any(first) else ["Conv"])
    assert all(len(node.input) < 5 for node in proto.graph.node)  # no step is left
    onnx.checker.check_model(proto, full_check=True)
    np.testing.assert_allclose(outputs_of(proto, x), before, rtol=1e-6)


@pytest.mark.parametrize("other", [{"step": 3}, {"kernel": 3}])
def test_other_convolutions_of_slices_are_left_alone(other: dict[str, int]) -> None:
    proto = chosen_pixels((12, 12), (0, 0), **other)
    nodes = [node.SerializeToString() for node in proto.graph.node]
    assert stride_pointwise(proto) == 0
    assert [node.SerializeToString() for node in proto.graph.node] == nodes


@pytest.mark.parametrize(("side", "changed"), [(6, 1), (5, 0)])
def test_a_pad_that_the_stride_would_skip_keeps_the_slices(side: int, changed: int) -> None:
    # Of 6 rows 0, 2, 4 and the pad at 6 are chosen; of 5 rows the pad at 5 would be passed over.
    proto = chosen_pixels((side, side), (0, 0))
    (pads,) = (a for a in proto.graph.node[2].attribute if a.name == "pads")
    pads.ints[:] = [0, 0, 1, 1]
    x = np.random.default_rng(1).random((2, 3, side, side), dtype=np.float32)
    before = outputs_of(proto, x)
    assert stride_pointwise(proto) == changed
    np.testing.assert_allclose(outputs_of(proto, x), before, rtol=1e-6)
