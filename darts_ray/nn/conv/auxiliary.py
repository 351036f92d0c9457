"""Auxiliary classifiers that read an inner cell while a network is trained."""

from __future__ import annotations

from torch import Tensor, nn


class AuxiliaryHead(nn.Module):
    """Pool, two convolutions, linear.

    The original code fits one image size, where the last map is 1x1; the mean over the map, which
    changes nothing there, makes larger images work too.

    Args:
        c_in: channels of the cell that it reads.
        num_classes: size of the output.
        pool_stride: 3 for CIFAR, 2 for ImageNet.
        second_norm: batch normalisation after the second convolution (CIFAR only, as in the
            original code).

    Attributes:
        smallest_map: pixels that each side of the input must have.
    """

    def __init__(self, c_in: int, num_classes: int, pool_stride: int, second_norm: bool) -> None:
        super().__init__()
        self.smallest_map = 5 + pool_stride  # leaves 2x2 for the 2x2 convolution
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, pool_stride, count_include_pad=False),
            nn.Conv2d(c_in, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            *([nn.BatchNorm2d(768)] if second_norm else []),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, c_in, height, width) to logits (batch, num_classes)."""
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits
