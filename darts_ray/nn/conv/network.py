"""Derived convolutional networks: CIFAR-sized and ImageNet-sized, trained from scratch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.conv.auxiliary import AuxiliaryHead
from darts_ray.nn.conv.cell import stack_cells
from darts_ray.nn.conv.skeleton import (
    CellPlace,
    ResidualBlock,
    check_image_size,
    inputs_of,
    make_head,
    make_stem,
    places,
)
from darts_ray.runtime.workers import Rows
from darts_ray.space import Genotype


class _CellNetwork(nn.Module, ABC):
    """Cells between a stem and a classifier; the stem is the subclass's.

    Attributes:
        drop_path: probability of dropping an operation's output in training.
        rows: which samples of a larger batch it is given, for drop path; None: all of them.
    """

    cells: nn.ModuleList
    classifier: nn.Linear
    stem_reduction: int

    def __init__(
        self,
        genotype: Genotype,
        num_classes: int,
        layers: int,
        drop_path: float,
        cell_places: Iterable[CellPlace],
    ) -> None:
        super().__init__()
        self.genotype = genotype
        self.num_classes = num_classes
        self.layers = layers
        self.drop_path = drop_path
        self.rows: Rows | None = None
        self.num_inputs = inputs_of(genotype.skeleton)
        self.places = list(cell_places)
        self.auxiliary_layer = 2 * len(self.places) // 3
        self.auxiliary_head: AuxiliaryHead | None = None
        self.lastact: nn.Module = nn.Identity()

    @abstractmethod
    def _stem(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first cell's two inputs."""

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (batch, in_channels, height, width) to logits (batch, num_classes).

        In training mode a network with an auxiliary head returns its logits as well: both must
        come out of `forward`, where `DistributedDataParallel` sees what takes part in a step.
        """
        if self.training and self.auxiliary_head is not None:
            logits, auxiliary = self.forward_with_auxiliary(images)
            assert auxiliary is not None
            return logits, auxiliary
        out: Tensor = self.classifier(self._features(images)[0])
        return out

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
        outputs = list(self._stem(images))
        inner = outputs[-1]
        probability = self.drop_path if self.training else 0.0
        for layer, cell in enumerate(self.cells):
            if isinstance(cell, ResidualBlock):
                out = cell(outputs[-1])
            else:
                out = cell(outputs[-self.num_inputs :], probability, self.rows)
            outputs = [outputs[-1], out]
            if layer == self.auxiliary_layer:
                inner = out
        return self.lastact(outputs[-1]).mean(dim=(2, 3)), inner

    def check_image_size(self, height: int, width: int) -> None:
        """Check that images of this size survive the reductions and suit the auxiliary head.

        Raises:
            ConfigError: they are too small.
        """
        self._check_reductions(height, width)
        if self.auxiliary_head is not None:
            halvings = _num_reductions(self.places[: self.auxiliary_layer + 1])
            # sizes are rounded up at each halving
            factor = self.stem_reduction * 2**halvings
            smallest = (self.auxiliary_head.smallest_map - 1) * factor + 1
            check_image_size(
                height, width, smallest, "auxiliary head (which `auxiliary: false` leaves out)"
            )

    def _check_reductions(self, height: int, width: int) -> None:
        halvings = _num_reductions(self.places)
        check_image_size(height, width, self.stem_reduction * 2**halvings)


def _num_reductions(places: Iterable[CellPlace]) -> int:
    return sum(place.reduction for place in places)


class ConvNetwork(_CellNetwork):
    """A CIFAR-sized network of derived cells (section 3.2.1 of the paper).

    A genotype of the `nasbench201` skeleton gives the network of that benchmark (Dong and Yang
    2020): its stem, three stages of cells, residual blocks between them.

    Args:
        genotype: the cells.
        channels: channels of the first cell's nodes; reductions double them.
        num_classes: size of the output.
        layers: number of cells; those at one third and two thirds reduce the image. With the
            `nasbench201` skeleton 3 N for N per stage (3 N + 2, which counts the residual blocks,
            means the same).
        auxiliary: whether to have an auxiliary head, after two thirds of the cells; None: as the
            skeleton's paper has it, that is with `darts` only.
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
        auxiliary: bool | None = None,
        drop_path: float = 0.2,
        in_channels: int = 3,
    ) -> None:
        skeleton = genotype.skeleton
        cell_places = places(skeleton, channels, layers)
        super().__init__(genotype, num_classes, layers, drop_path, cell_places)
        c_stem = 3 * channels if skeleton == "darts" else channels
        self.stem = make_stem(in_channels, c_stem)
        cells = stack_cells(genotype, self.places, c_stem, c_stem)
        self.cells = nn.ModuleList(cells)
        if skeleton == "darts" if auxiliary is None else auxiliary:
            c_inner = cells[self.auxiliary_layer].out_channels
            self.auxiliary_head = AuxiliaryHead(c_inner, num_classes, 3, second_norm=True)
        self.lastact = make_head(skeleton, cells[-1].out_channels)
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
        if genotype.skeleton != "darts":
            raise ConfigError(
                f"ImageNetNetwork: cells of the {genotype.skeleton} skeleton have no"
                " ImageNet-sized network; use ConvNetwork (style: cifar)."
            )
        cell_places = places("darts", channels, layers, reduction_prev=True)
        super().__init__(genotype, num_classes, layers, drop_path, cell_places)
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
        cells = stack_cells(genotype, self.places, channels, channels)
        self.cells = nn.ModuleList(cells)
        if auxiliary:
            c_inner = cells[self.auxiliary_layer].out_channels
            self.auxiliary_head = AuxiliaryHead(c_inner, num_classes, 2, second_norm=False)
        self.classifier = nn.Linear(cells[-1].out_channels, num_classes)

    def _stem(self, images: Tensor) -> tuple[Tensor, Tensor]:
        s0 = self.stem0(images)
        return s0, self.stem1(s0)
