"""The weights of separable and dilated convolutions on edges that leave one state."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from darts_ray.nn.conv.fused.branches import Kernels
from darts_ray.nn.conv.fused.depthwise_gradients import Stencil
from darts_ray.nn.conv.fused.others import EdgeWeights, conv_weight, edge_rows

SEPARABLE = {
    "sep_conv_3x3": (3, 1),
    "sep_conv_5x5": (5, 1),
    "sep_conv_7x7": (7, 1),
    "dil_conv_3x3": (3, 2),
    "dil_conv_5x5": (5, 2),
}
"""Kernel size and dilation of the depthwise-pointwise primitives."""


class SeparableConvs(nn.Module):
    """A separable (two halves) or dilated (one half) convolution on every edge.

    Each half is ReLU, depthwise, pointwise, BN.

    Attributes:
        depthwise: per half, (edges * channels, 1, k, k).
        pointwise: per half, (edges * channels, channels, 1, 1).
    """

    def __init__(self, name: str, channels: int, stride: int, edges: int) -> None:
        super().__init__()
        size, dilation = SEPARABLE[name]
        self.stencil = Stencil(stride, dilation)
        halves = 2 if dilation == 1 else 1
        self.num_edges, self.channels = edges, channels
        self.depthwise = nn.ParameterList(
            conv_weight(edges * channels, 1, size, size) for _ in range(halves)
        )
        self.pointwise = nn.ParameterList(
            conv_weight(edges * channels, channels, 1, 1) for _ in range(halves)
        )

    def kernels(self, edges: Sequence[int], size: int, folds: int) -> list[Kernels]:
        """Return the weights of some edges, up to `size` of them at a time.

        Args:
            edges: their positions.
            size: the number.
            folds: images whose channels lie beside each other, all with the same weights.
        """
        if len(edges) == self.num_edges:
            depthwise = [weight.split(size * self.channels) for weight in self.depthwise]
            pointwise = [weight.split(size * self.channels) for weight in self.pointwise]
        else:
            chunks = [edges[first : first + size] for first in range(0, len(edges), size)]
            depthwise, pointwise = (
                [
                    tuple(edge_rows(weight, chunk, self.channels) for chunk in chunks)
                    for weight in weights
                ]
                for weights in (self.depthwise, self.pointwise)
            )
        return [
            Kernels(
                self.stencil,
                tuple(self._folded(half, folds) for half in depthwise_halves),
                tuple(half.view(-1, self.channels, self.channels) for half in pointwise_halves),
            )
            for depthwise_halves, pointwise_halves in zip(
                zip(*depthwise, strict=True), zip(*pointwise, strict=True), strict=True
            )
        ]

    def _folded(self, weight: Tensor, folds: int) -> Tensor:
        """Repeat the weights of each edge: (E * C, 1, k, k) to (E * F * C, 1, k, k)."""
        if folds == 1:
            return weight
        blocks = weight.view(-1, 1, self.channels, *weight.shape[1:])
        return blocks.repeat(1, folds, 1, 1, 1, 1).flatten(0, 2)

    def edge_weights(self, edge: int) -> EdgeWeights:
        """Yield the weights of one edge."""
        part = slice(edge * self.channels, (edge + 1) * self.channels)
        for half in range(len(self.depthwise)):
            yield f"op.{1 + 4 * half}.weight", self.depthwise[half][part]
            yield f"op.{2 + 4 * half}.weight", self.pointwise[half][part]
