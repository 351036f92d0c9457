"""Pointwise convolution and affine-free batch normalisation as one linear map.

`BN(P z)` needs of its input z only the mean m and the covariance C: the output's variance is
`v = diag(P C P^T)`, and with `s = 1 / sqrt(v + eps)`

    BN(P z) = W z + b,    W = diag(s) P,    b = -W m.

So the convolution's output is never stored or read again, a mixed op's weight multiplies W, and
the sum over the primitives of an edge is a sum of matrix products. The gradient is closed too:
with D the gradient of `a BN(P z)`, G = sum_n D_n z_n^T - (sum_n D_n) m^T and h = diag(G W^T),

    da = sum(h)
    dP = a diag(s) (G - diag(h s) P C)
    dz_n = a (W^T D_n - S z_n + c),    S = W^T diag(h / N) W,    c = S m - W^T (sum_n D_n) / N.

Every large operation is a matrix product over all edges that leave a state. Plain PyTorch makes a
pass over memory for each of the mean, the variance, the normalisation, the weight and the sum,
and several more on the way back.

Shapes: E edges, N = batch * height * width pixels, I and O channels in and out, K operations.
Activations may have a lower precision than the weights; moments and all matrices without N have
the weights'.

A row may hold F pixels beside each other, all with the same map, so that few channels fill a
vector register: (E, N / F, F * I). Then matrices are applied as F blocks on a diagonal, and sums
over pixels are sums over the blocks as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-5
"""Added to variances, as nn.BatchNorm2d does."""


def pixel_rows(images: Tensor, edges: int) -> Tensor:
    """View (batch, edges * channels, height, width) as (edges, pixels, channels).

    This is a view when `images` is channels-last in memory, as everything here is.
    """
    channels = images.shape[1] // edges
    rows = images.permute(0, 2, 3, 1).reshape(-1, edges, channels)  # (pixels, edges, channels)
    return rows.transpose(0, 1)


def images_of(rows: Tensor, like: Tensor) -> Tensor:
    """Undo `pixel_rows`: view rows as (batch, edges * channels, height, width) of `like`."""
    edges, _, channels = rows.shape
    batch, _, height, width = like.shape
    images = rows.transpose(0, 1).reshape(batch, height, width, edges * channels)
    return images.permute(0, 3, 1, 2)  # (batch, edges * channels, height, width)


def image_of(rows: Tensor, batch: int, height: int, width: int) -> Tensor:
    """View one edge's rows (pixels, channels) as (batch, channels, height, width)."""
    return rows.reshape(batch, height, width, -1).permute(0, 3, 1, 2)


def unbind_edges(rows: Tensor) -> Sequence[Tensor]:
    """Return the rows of each edge; the backward pass of `unbind` copies even a single one."""
    return [rows.squeeze(0)] if len(rows) == 1 else rows.unbind()


def pixel_products(products: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the sum of images (batch, I, height, width), each pixel times a matrix (I, O).

    Args:
        products: images and matrices, of one type; I may differ.
    """
    (images, matrix), *rest = products
    with torch.autocast(images.device.type, enabled=False):
        out = pixel_rows(images, 1)[0] @ matrix
        for x, factor in rest:
            out.addmm_(pixel_rows(x, 1)[0], factor)
    return image_of(out, len(images), *images.shape[2:])


class LinearMap(NamedTuple):
    """What `BN(P z)` amounts to, given the moments of z."""

    mean: Tensor
    """m, (K, E, I)."""

    projected: Tensor
    """P C, (K, E, O, I)."""

    scale: Tensor
    """s, (K, E, O)."""

    weight: Tensor
    """W, (K, E, O, I)."""


def linear_map(inputs: Sequence[Tensor], pointwise: Tensor) -> LinearMap:
    """Return the map of K inputs (E, N / F, F * I), given weights (K, E, O, I); differentiable.

    The covariance is computed in one pass, as the mean of squares minus the square of the mean. It
    loses about `(mean / std)^2` times the precision of the moments, which is that of the weights:
    with float32 a tenth of a percent is reached at mean / std = 100, far above what follows a
    ReLU and a normalised state. Activations in bfloat16 cost their own rounding only, because
    moments are accumulated in the weights' precision.
    """
    P, folds = pointwise, inputs[0].shape[-1] // pointwise.shape[-1]
    means, squares = [], []
    for z in inputs:
        z = z.to(P.dtype)
        means.append(_folded_sum(z.mean(dim=1), folds) / folds)
        squares.append(_block_sum(_products(z.mT, z), folds))
    m = torch.stack(means)  # (K, E, I)
    C = torch.stack(squares) / (inputs[0].shape[1] * folds)  # (K, E, I, I)
    C = C - m.unsqueeze(-1) * m.unsqueeze(-2)
    PC = P @ C  # (K, E, O, I)
    v = (PC * P).sum(-1).clamp(min=0)  # (K, E, O); rounding can make a constant's negative
    s = torch.rsqrt(v + EPSILON)
    return LinearMap(m, PC, s, s.unsqueeze(-1) * P)


def apply_map(
    inputs: Sequence[Tensor],
    linear: LinearMap,
    mix: Tensor | None = None,
    base: Tensor | None = None,
) -> Tensor:
    """Return `base + sum_k mix_k (W_k inputs_k + b_k)`; differentiable.

    Args:
        inputs: K tensors (E, N / F, F * I).
        linear: the map.
        mix: weights of the K operations, (K, E); None for ones.
        base: (E, N / F, F * O); None for zeros.

    Returns:
        (E, N / F, F * O), in memory as `base`; without it (N / F, E, F * O), as a convolution over
        images with E * F * O channels reads it.
    """
    mixed, folds = _mixed(linear, mix), inputs[0].shape[-1] // linear.weight.shape[-1]
    bias = (mixed * linear.mean.unsqueeze(-2)).sum((0, -1)).neg().repeat(1, folds)  # (E, F * O)
    weights = _blocks(mixed.to(inputs[0].dtype).mT, folds).unbind(0)
    if base is None:
        out = _affine(bias.to(inputs[0].dtype), inputs[0], weights[0])
        inputs, weights = inputs[1:], weights[1:]
    else:
        out = base + bias.unsqueeze(1).to(base.dtype)
    for z, weight in zip(inputs, weights, strict=True):
        _add_products(out, z, weight)
    return out


def map_gradients(
    grad: Tensor,
    inputs: Sequence[Tensor],
    linear: LinearMap,
    mix: Tensor | None,
    needs_inputs: bool,
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Return the gradients of mix (K, E), pointwise (K, E, O, I) and each input (E, N / F, F * I).

    Args:
        grad: gradient of the output, (E, N / F, F * O).
        inputs: of the forward pass, as are the next two.
        linear: the map.
        mix: weights of the operations; None for ones.
        needs_inputs: whether to compute the inputs' gradients.
    """
    m, PC, s, W = linear
    folds, dtype = inputs[0].shape[-1] // W.shape[-1], W.dtype
    N = grad.shape[1] * folds
    D_sum = _folded_sum(grad.sum(dim=1, dtype=dtype), folds)  # (E, O)
    G = _block_sum(torch.stack([_products(grad.mT, z) for z in inputs]).to(dtype), folds)
    G -= D_sum.unsqueeze(-1) * m.unsqueeze(-2)  # (K, E, O, I)
    h = (G * W).sum(-1)  # (K, E, O)
    grad_inputs: list[Tensor | None] = [None] * len(inputs)
    if needs_inputs:
        aW = _mixed(linear, mix)  # (K, E, O, I)
        aS = aW.mT @ ((h / N).unsqueeze(-1) * W)  # (K, E, I, I)
        ac = m.unsqueeze(-2) @ aS - (D_sum / N).unsqueeze(-2) @ aW  # (K, E, 1, I)
        aW, aS = (_blocks(value.to(grad.dtype), folds) for value in (aW, aS))
        ac = ac.to(grad.dtype).squeeze(-2).repeat(1, 1, folds)
        for k, z in enumerate(inputs):
            target = _affine(ac[k], grad, aW[k])  # in memory as the convolution's z
            _add_products(target, z, aS[k], alpha=-1)
            grad_inputs[k] = target
    G -= (h * s).unsqueeze(-1) * PC
    G *= (s if mix is None else mix.unsqueeze(-1) * s).unsqueeze(-1)
    return h.sum(-1), G, grad_inputs


def _folded_sum(values: Tensor, folds: int) -> Tensor:
    """Sum (..., F * I) over the F pixels of a row: (..., I)."""
    return values if folds == 1 else values.view(*values.shape[:-1], folds, -1).sum(-2)


def _block_sum(matrix: Tensor, folds: int) -> Tensor:
    """Sum the blocks on the diagonal of (..., F * O, F * I): (..., O, I)."""
    if folds == 1:
        return matrix
    *edges, rows, columns = matrix.shape
    blocks = matrix.view(*edges, folds, rows // folds, folds, columns // folds)
    return blocks.diagonal(dim1=-4, dim2=-2).sum(-1)


def _blocks(matrix: Tensor, folds: int) -> Tensor:
    """Repeat (..., I, O) on the diagonal of (..., F * I, F * O)."""
    if folds == 1:
        return matrix
    eye = torch.eye(folds, dtype=matrix.dtype, device=matrix.device)[:, None, :, None]
    return (eye * matrix[..., None, :, None, :]).flatten(-2).flatten(-3, -2)


def _mixed(linear: LinearMap, mix: Tensor | None) -> Tensor:
    return linear.weight if mix is None else mix[..., None, None] * linear.weight


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Return `a @ b` for each edge; `bmm` runs on one thread if there is one edge."""
    return torch.mm(a[0], b[0]).unsqueeze(0) if len(a) == 1 else torch.bmm(a, b)


def _add_products(out: Tensor, a: Tensor, b: Tensor, alpha: int = 1) -> None:
    """Add `alpha * a @ b` to `out` for each edge."""
    if len(a) == 1:
        out[0].addmm_(a[0], b[0], alpha=alpha)
    else:
        out.baddbmm_(a, b, alpha=alpha)


def _affine(bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return `bias + a @ b` for each edge, (E, N, O), in memory (N, E, O).

    Args:
        bias: (E, O).
        a: (E, N, I).
        b: (E, I, O).
    """
    if len(a) == 1:
        return torch.addmm(bias[0], a[0], b[0]).unsqueeze(0)
    out = a.new_empty(a.shape[1], *bias.shape).transpose(0, 1).copy_(bias.unsqueeze(1))
    return out.baddbmm_(a, b)
