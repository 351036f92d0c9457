"""Pointwise convolution and BN as one linear map, against PyTorch's modules."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from darts_ray.nn.pointwise_norm import images_of, mixed_pointwise_norm, pixel_rows
from darts_ray.nn.second_half import second_depthwise

pytestmark = pytest.mark.usefixtures("one_thread")

OPERATIONS, EDGES, C_IN, C_OUT = 3, 2, 3, 5


def make_inputs() -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [
        (EDGES, 24, C_OUT),  # base
        (OPERATIONS, EDGES),  # mix
        (OPERATIONS, EDGES, C_OUT, C_IN),  # pointwise
        *[(2, EDGES * C_IN, 3, 4)] * OPERATIONS,
    ]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def fast(base: Tensor, mix: Tensor, pointwise: Tensor, *images: Tensor) -> Tensor:
    return mixed_pointwise_norm([pixel_rows(x, EDGES) for x in images], pointwise, mix, base)


def plain(base: Tensor, mix: Tensor, pointwise: Tensor, *images: Tensor) -> Tensor:
    edges = []
    for edge in range(EDGES):
        total = base[edge]
        for k, x in enumerate(images):
            x = x[:, edge * C_IN : (edge + 1) * C_IN]
            y = F.conv2d(x, pointwise[k, edge, :, :, None, None])
            y = F.batch_norm(y, None, None, training=True)
            total = total + mix[k, edge] * y.permute(0, 2, 3, 1).reshape(-1, C_OUT)
        edges.append(total)
    return torch.stack(edges)


def test_value_and_gradients() -> None:
    inputs = make_inputs()
    ours, theirs = fast(*inputs), plain(*inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    grad = torch.randn_like(theirs)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, grad),
        torch.autograd.grad(theirs, inputs, grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_second_derivatives() -> None:
    assert torch.autograd.gradgradcheck(fast, make_inputs(), fast_mode=True)


def test_second_half_value_and_gradients() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, EDGES * C_IN, 4, 4, dtype=torch.float64, requires_grad=True)
    pointwise = torch.randn(EDGES, C_IN, C_IN, dtype=torch.float64, requires_grad=True)
    depthwise = torch.randn(EDGES * C_IN, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    inputs = (x, pointwise, depthwise)
    weight = pointwise.reshape(EDGES * C_IN, C_IN, 1, 1)
    y = F.batch_norm(F.conv2d(x, weight, groups=EDGES), None, None, training=True)
    theirs = F.conv2d(F.relu(y), depthwise, padding=2, groups=EDGES * C_IN)
    ours = second_depthwise(*inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    grad = torch.randn_like(theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs, grad),
        torch.autograd.grad(theirs, inputs, grad),
        rtol=1e-10,
        atol=1e-10,
    )
    assert torch.autograd.gradgradcheck(second_depthwise, inputs, fast_mode=True)


def test_constant_channels_stay_finite_in_float32() -> None:
    """Mean and mean square of a large constant cancel; the variance must not become negative."""
    rows = torch.full((1, 64, 4), 1000.0, requires_grad=True)
    out = mixed_pointwise_norm([rows], torch.randn(1, 1, 4, 4), torch.ones(1, 1))
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(rows.grad).all()


def test_rows_and_images_are_views_of_each_other() -> None:
    images = torch.randn(2, 6, 3, 4).contiguous(memory_format=torch.channels_last)
    rows = pixel_rows(images, 2)
    assert rows.shape == (2, 24, 3)
    assert rows.data_ptr() == images.data_ptr()
    assert rows[1, 13, 2] == images[1, 5, 0, 1]  # edge 1, channel 2; pixel 13 = 12 + 0 * 4 + 1
    assert torch.equal(images_of(rows, (3, 4)), images)
