"""The mixed convolutions as one function, against PyTorch's modules, in every shape of kernel."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from darts_ray.nn.conv.fused.branches import Kernels
from darts_ray.nn.conv.fused.convs import mixed_convs
from darts_ray.nn.conv.fused.depthwise_gradients import Stencil

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True, params=["kept", "computed again"])
def activations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the backward pass reads: all activations here are small enough to be kept."""
    if request.param == "computed again":
        monkeypatch.setattr("darts_ray.nn.conv.fused.convs._SMALL_BYTES", 0)
    return str(request.param)


Branch = tuple[int, Stencil, int]
"""Kernel size, stencil and halves of a primitive."""

SEPARABLE, DILATED, REDUCING = Stencil(), Stencil(1, 2), Stencil(2, 1)
BRANCHES: list[Branch] = [
    *[(size, Stencil(stride), 2) for size in (3, 5, 7) for stride in (1, 2)],
    *[(size, Stencil(stride, 2), 1) for size in (3, 5) for stride in (1, 2)],
]
MIXTURES = [
    [(3, SEPARABLE, 2), (5, SEPARABLE, 2), (3, DILATED, 1), (5, DILATED, 1)],
    [(3, REDUCING, 2), (5, REDUCING, 2), (3, Stencil(2, 2), 1), (5, Stencil(2, 2), 1)],
]


def make_inputs(
    branches: Sequence[Branch], edges: int, channels: int, size: tuple[int, int]
) -> list[Tensor]:
    """Return state, mix, base and all weights."""
    torch.manual_seed(0)
    stride = branches[0][1].stride
    pixels = 2 * -(-size[0] // stride) * -(-size[1] // stride)
    shapes: list[tuple[int, ...]] = [
        (2, channels, *size),
        (len(branches), edges),
        (edges, pixels, channels),
    ]
    for kernel, _, halves in branches:
        shapes += [(edges * channels, 1, kernel, kernel)] * halves
        shapes += [(edges, channels, channels)] * halves
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def kernels_of(branches: Sequence[Branch], weights: Sequence[Tensor]) -> list[Kernels]:
    rest = iter(weights)
    return [
        Kernels(
            stencil,
            tuple(itertools.islice(rest, halves)),
            tuple(itertools.islice(rest, halves)),
        )
        for _, stencil, halves in branches
    ]


def plain(
    branches: Sequence[Branch], x: Tensor, mix: Tensor, base: Tensor, *weights: Tensor
) -> Tensor:
    edges, channels = len(base), x.shape[1]
    totals = list(base.unbind(0))
    for k, kernel in enumerate(kernels_of(branches, weights)):
        y = x.repeat(1, edges, 1, 1)
        stencil = kernel.stencil
        for depthwise, pointwise in zip(kernel.depthwise, kernel.pointwise, strict=True):
            y = F.conv2d(
                F.relu(y),
                depthwise,
                stride=stencil.stride,
                padding=stencil.dilation * (depthwise.shape[-1] // 2),
                dilation=stencil.dilation,
                groups=len(depthwise),
            )
            y = F.conv2d(y, pointwise.reshape(-1, channels, 1, 1), groups=edges)
            y = F.batch_norm(y, None, None, training=True)
            stencil = Stencil()
        for edge, part in enumerate(y.split(channels, dim=1)):
            rows = part.permute(0, 2, 3, 1).reshape(-1, channels)
            totals[edge] = totals[edge] + mix[k, edge] * rows
    return torch.stack(totals)


def check(branches: Sequence[Branch], edges: int, channels: int, size: tuple[int, int]) -> None:
    inputs = make_inputs(branches, edges, channels, size)
    x, mix, base, *weights = inputs
    ours = mixed_convs(x, kernels_of(branches, weights), mix, base)
    theirs = plain(branches, *inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    grad = torch.randn_like(theirs)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, grad),
        torch.autograd.grad(theirs, inputs, grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("branch", BRANCHES, ids=str)
def test_value_and_gradients_of_one_primitive(branch: Branch) -> None:
    for size, channels, edges in itertools.product(((8, 8), (7, 5), (9, 12)), (1, 3), (1, 2)):
        check([branch], edges, channels, size)


@pytest.mark.parametrize("branches", MIXTURES, ids=("normal", "reduction"))
def test_value_and_gradients_of_a_mixture(branches: list[Branch]) -> None:
    for edges in (1, 3):
        check(branches, edges, 4, (6, 6))


@pytest.mark.parametrize("branches", MIXTURES, ids=("normal", "reduction"))
def test_second_derivatives(branches: list[Branch]) -> None:
    x, mix, _, *weights = make_inputs(branches, 2, 2, (4, 4))

    def of(x: Tensor, mix: Tensor, *weights: Tensor) -> Tensor:
        return mixed_convs(x, kernels_of(branches, weights), mix, None)

    assert torch.autograd.gradgradcheck(of, (x, mix, *weights), fast_mode=True)


def test_gradients_that_can_be_differentiated_when_applied_twice() -> None:
    """The second input depends on the weights through the first, which must not count twice."""
    branches = MIXTURES[0]
    x, mix, _, *weights = make_inputs(branches, 1, 2, (4, 4))

    def apply(x: Tensor) -> Tensor:
        rows = mixed_convs(x, kernels_of(branches, weights), mix, None)
        return rows.view(2, 4, 4, 2).permute(0, 3, 1, 2)

    y = apply(apply(x)).square().sum()
    expected = torch.autograd.grad(y, [mix, *weights], retain_graph=True)
    replayed = torch.autograd.grad(y, [mix, *weights], create_graph=True)
    for ours, theirs in zip(replayed, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("branches", MIXTURES, ids=("normal", "reduction"))
def test_float32_kernels_of_the_library(branches: list[Branch]) -> None:
    """Single precision takes oneDNN's kernels, which float64 does not reach."""
    inputs = make_inputs(branches, 2, 16, (8, 8))
    gradients = []
    for dtype in (torch.float32, torch.float64):
        x, mix, base, *weights = (tensor.to(dtype) for tensor in inputs)
        x = x.contiguous(memory_format=torch.channels_last)
        out = mixed_convs(x, kernels_of(branches, weights), mix, base)
        gradients.append(torch.autograd.grad(out.square().sum(), inputs))
    for single, double in zip(*gradients, strict=True):
        assert (single - double).norm() < 1e-4 * double.norm()


def test_gradients_that_are_not_needed_are_not_computed() -> None:
    """With frozen weights no convolution is differentiated for its weights."""
    branches = MIXTURES[0]
    x, mix, base, *weights = make_inputs(branches, 1, 4, (6, 6))
    for weight in weights:
        weight.requires_grad_(False)
    with torch.profiler.profile() as profile:
        mixed_convs(x, kernels_of(branches, weights), mix, base).sum().backward()
    assert "aten::convolution_backward" not in {event.key for event in profile.key_averages()}
    assert x.grad is not None
    assert mix.grad is not None


def test_small_activations_are_not_computed_again(activations: str) -> None:
    branches = MIXTURES[0]
    x, mix, base, *weights = make_inputs(branches, 1, 4, (6, 6))
    for frozen in (x, *weights):  # their gradients take convolutions, too
        frozen.requires_grad_(False)
    with torch.profiler.profile() as profile:
        out = mixed_convs(x, kernels_of(branches, weights), mix, base)
        torch.autograd.grad(out.sum(), mix)
    counts = {event.key: event.count for event in profile.key_averages()}
    # two separable and two dilated convolutions
    assert counts["aten::conv2d"] == (6 if activations == "kept" else 12)
