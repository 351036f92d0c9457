"""Gradients of the depthwise convolutions, in every shape that takes its own path."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from darts_ray.nn.depthwise import rectified_depthwise
from darts_ray.nn.depthwise_gradients import Stencil

pytestmark = pytest.mark.usefixtures("one_thread")

STENCILS = [Stencil(*pair) for pair in itertools.product((1, 2), (1, 2))]


@pytest.mark.parametrize("stencil", STENCILS, ids=str)
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_value_and_gradients(kernel: int, stencil: Stencil) -> None:
    torch.manual_seed(0)
    for (height, width), channels, edges in itertools.product(
        ((8, 8), (7, 5), (3, 2), (9, 12)), (1, 3), (1, 2)
    ):
        x = torch.randn(2, channels, height, width, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(edges * channels, 1, kernel, kernel, dtype=torch.float64)
        weight.requires_grad_()
        (ours,) = rectified_depthwise(x, [weight], [stencil], edges)
        theirs = F.conv2d(
            F.relu(x).repeat(1, edges, 1, 1),
            weight,
            stride=stencil.stride,
            padding=stencil.dilation * (kernel // 2),
            dilation=stencil.dilation,
            groups=len(weight),
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
        grad = torch.randn_like(theirs)
        torch.testing.assert_close(
            torch.autograd.grad(ours, (x, weight), grad),
            torch.autograd.grad(theirs, (x, weight), grad),
            rtol=1e-11,
            atol=1e-11,
        )


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_float32_kernels_of_the_library(kernel: int, dilation: int) -> None:
    """Single precision takes oneDNN's kernels, which float64 does not reach."""
    torch.manual_seed(0)
    x = torch.randn(4, 16, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(32, 1, kernel, kernel, requires_grad=True)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        (out,) = rectified_depthwise(x.to(dtype), [weight.to(dtype)], [Stencil(1, dilation)], 2)
        torch.manual_seed(1)
        grad = torch.randn(out.shape).to(dtype)
        gradients.append(torch.autograd.grad(out, (x, weight), grad))
    # sums of up to 256 products of numbers around 1
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stencil", STENCILS, ids=str)
def test_second_derivatives(stencil: Stencil) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda x, weight: rectified_depthwise(x, [weight], [stencil], 2), (x, weight)
    )


def test_gradients_that_are_not_needed_are_not_computed() -> None:
    x = torch.randn(2, 2, 4, 4)
    weight = torch.randn(2, 1, 5, 5, requires_grad=True)
    (out,) = rectified_depthwise(x, [weight], [Stencil()], 1)
    with torch.profiler.profile() as profile:
        out.sum().backward()
    assert not any(event.key == "aten::mkldnn_convolution" for event in profile.key_averages())
    assert weight.grad is not None
