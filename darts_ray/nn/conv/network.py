"""Derived convolutional networks: CIFAR-sized and ImageNet-sized, trained from scratch."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from darts_ray.nn.conv.auxiliary import AuxiliaryHead
from darts_ray.nn.conv.cell import stack_cells
from darts_ray.nn.conv.image_size import check_image_size, reduction_layers
from darts_ray.space import Genotype


class _CellNetwork(nn.Module, ABC):
    """Cells between a stem and a classifier; the stem is the subclass's."""

    cells: nn.ModuleList
    classifier: nn.Linear
    stem_reduction: int

    def __init__(
        self,
        genotype: Genotype,
        num_classes: int,
        layers: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.genotype = genotype
        self.num_classes = num_classes
        self.layers = layers
        self.drop_path = drop_path
        self.auxiliary_layer = 2 * layers // 3
        self.auxiliary_head: AuxiliaryHead | None = None

    @abstractmethod
    def _stem(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first cell's two inputs."""

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        logits: Tensor = self.classifier(self._features(images)[0])
        return logits

    def forward_with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return logits and the auxiliary head's, both (batch, num_classes).

        The second is None when the network has no auxiliary head.
        """
        self.check_image_size(*images.shape[-2:])
        features, inner = self._features(images)
        head = self.auxiliary_head
        return self.classifier(features), None if head is None else head(inner)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the averaged last map (batch, channels) and the map for the auxiliary head."""
        self._check_reductions(*images.shape[-2:])
        s0, s1 = self._stem(images)
        inner = s1
        probability = self.drop_path if self.training else 0.0
        for layer, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, probability)
            if layer == self.auxiliary_layer:
                inner = s1
        return s1.mean(dim=(2, 3)), inner

    def check_image_size(self, height: int, width: int) -> None:
        """Check that images of this size survive the reductions and suit the auxiliary head.

        Raises:
            ConfigError: they are too small.
        """
        self._check_reductions(height, width)
        if self.auxiliary_head is not None:
            halvings = sum(
                layer <= self.auxiliary_layer for layer in reduction_layers(self.layers)
            )
            # sizes are rounded up at each halving
            factor = self.stem_reduction * 2**halvings
            smallest = (self.auxiliary_head.smallest_map - 1) * factor + 1
            check_image_size(
                height, width, smallest, "auxiliary head (which `auxiliary: false` leaves out)"
            )

    def _check_reductions(self, height: int, width: int) -> None:
        halvings = len(reduction_layers(self.layers))
        check_image_size(height, width, self.stem_reduction * 2**halvings)


class ConvNetwork(_CellNetwork):
    """A CIFAR-sized network of derived cells (section 3.2.1 of the paper).

    Args:
        genotype: the cells.
        channels: channels of the first cell's nodes; reduction cells double them.
        num_classes: size of the output.
        layers: number of cells; those at one third and two thirds reduce the image.
        auxiliary: whether to have an auxiliary head, after cell 2 * layers // 3.
        drop_path: probability of dropping an operation's output in training; may be set between
            epochs.
        in_channels: channels of the images.

    Attributes:
        drop_path: as above.

    Raises:
        ConfigError: the genotype names an unknown operation or cannot be built.
    """

    stem_reduction = 1

    def __init__(
        self,
        genotype: Genotype,
        channels: int = 36,
        num_classes: int = 10,
        layers: int = 20,
        auxiliary: bool = True,
        drop_path: float = 0.2,
        in_channels: int = 3,
    ) -> None:
        super().__init__(genotype, num_classes, layers, drop_path)
        c_stem = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, c_stem, 3, padding=1, bias=False), nn.BatchNorm2d(c_stem)
        )
        cells = stack_cells(
            genotype, c_stem, c_stem, channels, reduction_layers(layers), layers, False
        )
        self.cells = nn.ModuleList(cells)
        if auxiliary:
            c_inner = cells[self.auxiliary_layer].out_channels
            self.auxiliary_head = AuxiliaryHead(c_inner, num_classes, 3, second_norm=True)
        self.classifier = nn.Linear(cells[-1].out_channels, num_classes)

    def _stem(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(images)
        return x, x


class ImageNetNetwork(_CellNetwork):
    """An ImageNet-sized network of derived cells: three stride-2 convolutions, then cells.

    Args:
        genotype: the cells.
        channels: channels of the first cell's nodes; reduction cells double them.
        num_classes: size of the output.
        layers: number of cells.
        auxiliary: whether to have an auxiliary head, after cell 2 * layers // 3.
        drop_path: probability of dropping an operation's output in training.
        in_channels: channels of the images.

    Attributes:
        drop_path: as above.

    Raises:
        ConfigError: the genotype names an unknown operation or cannot be built.
    """

    stem_reduction = 8

    def __init__(
        self,
        genotype: Genotype,
        channels: int = 48,
        num_classes: int = 1000,
        layers: int = 14,
        auxiliary: bool = True,
        drop_path: float = 0.0,
        in_channels: int = 3,
    ) -> None:
        super().__init__(genotype, num_classes, layers, drop_path)
        half = channels // 2
        self.stem0 = nn.Sequential(
            nn.Conv2d(in_channels, half, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.stem1 = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        cells = stack_cells(
            genotype, channels, channels, channels, reduction_layers(layers), layers, True
        )
        self.cells = nn.ModuleList(cells)
        if auxiliary:
            c_inner = cells[self.auxiliary_layer].out_channels
            self.auxiliary_head = AuxiliaryHead(c_inner, num_classes, 2, second_norm=False)
        self.classifier = nn.Linear(cells[-1].out_channels, num_classes)

    def _stem(self, images: Tensor) -> tuple[Tensor, Tensor]:
        s0 = self.stem0(images)
        return s0, self.stem1(s0)
