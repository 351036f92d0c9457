"""The dense edges as one function, against PyTorch's modules."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from darts_ray.nn.conv.fused.dense import POOL, SKIP, Term, mixed_dense
from darts_ray.nn.conv.fused.pools import average, average_gradient

pytestmark = pytest.mark.usefixtures("one_thread")

EDGES = [
    [Term(0, 0, SKIP), Term(0, 1, 0, 0), Term(0, 2, 1, 0), Term(0, 3, POOL)],
    [Term(1, 3, POOL), Term(1, 2, 1, 1)],
    [Term(2, 1, 0, 1)],
    [Term(3, 0, SKIP)],
]
"""Of two 1x1 and two 3x3 convolutions; primitives in another order on the second edge."""


def make_inputs(channels: int, size: tuple[int, int]) -> list[Tensor]:
    """Return state, p, weights and biases."""
    torch.manual_seed(0)
    shapes: list[tuple[int, ...]] = [(2, channels, *size), (4, 4)]
    shapes += [(2 * channels, channels, 1, 1), (2 * channels, channels, 3, 3)]
    shapes += [(2 * channels,)] * 2
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def ours(x: Tensor, p: Tensor, *weights: Tensor) -> list[Tensor]:
    sums = mixed_dense(x, p, [term for edge in EDGES for term in edge], weights[:2], weights[2:])
    assert list(sums) == [0, 1, 2, 3]
    return list(sums.values())


def plain(x: Tensor, p: Tensor, *weights: Tensor) -> list[Tensor]:
    channels, outputs = x.shape[1], []
    for terms in EDGES:
        total = torch.zeros_like(x)
        for edge, column, index, position in terms:
            if index == SKIP:
                out = x
            elif index == POOL:
                out = F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)
            else:
                rows = slice(position * channels, (position + 1) * channels)
                kernel = weights[index][rows]
                out = F.conv2d(x.relu(), kernel, weights[2 + index][rows], padding=index)
                out = F.batch_norm(out, None, None, training=True)
            total = total + p[edge, column] * out
        outputs.append(total)
    return outputs


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (1, 2)])
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_values_and_gradients(channels: int, size: tuple[int, int]) -> None:
    inputs = make_inputs(channels, size)
    pairs = list(zip(ours(*inputs), plain(*inputs), strict=True))
    grads = [torch.randn_like(theirs) for _, theirs in pairs]
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(
        *(torch.autograd.grad(outputs, inputs, grads) for outputs in zip(*pairs, strict=True)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-8)


def test_gradients_without_those_of_the_weights_or_of_the_state() -> None:
    x, p, *weights = make_inputs(3, (4, 4))
    expected = torch.autograd.grad(sum(y.square().sum() for y in plain(x, p, *weights)), [x, p])
    for chosen, theirs in zip((x, p), expected, strict=True):
        given = [t if t is chosen else t.detach() for t in (x, p, *weights)]
        loss = sum(y.square().sum() for y in ours(*given))
        torch.testing.assert_close(torch.autograd.grad(loss, chosen)[0], theirs)


def test_second_derivatives() -> None:
    inputs = make_inputs(2, (3, 4))
    assert torch.autograd.gradgradcheck(lambda *given: ours(*given), inputs, fast_mode=True)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (6, 3)])
def test_the_average_is_pytorchs_pool(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    pooled = F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)
    torch.testing.assert_close(average(x.detach()), pooled)
    grad = torch.randn_like(pooled)
    torch.testing.assert_close(average_gradient(grad), torch.autograd.grad(pooled, x, grad)[0])
