"""The convolutional supernet: every primitive on every edge, weighted by alphas."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.image_size import check_image_size, reduction_layers
from darts_ray.nn.mixed import OutgoingEdges
from darts_ray.nn.operations import FactorizedReduce, ReLUConvNorm, forget_running_statistics
from darts_ray.nn.supernet import Batch, State
from darts_ray.space import ConvGenotype, SearchSpace, derive, resolve_space


class SupernetCell(nn.Module):
    """A cell whose every edge is a mixed op."""

    def __init__(
        self,
        space: SearchSpace,
        nodes: int,
        c_prev_prev: int,
        c_prev: int,
        channels: int,
        reduction: bool,
        reduction_prev: bool,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.preprocess0: nn.Module
        if reduction_prev:
            self.preprocess0 = FactorizedReduce(c_prev_prev, channels, affine=False)
        else:
            self.preprocess0 = ReLUConvNorm(c_prev_prev, channels, affine=False)
        self.preprocess1 = ReLUConvNorm(c_prev, channels, affine=False)
        self.states = nn.ModuleList(
            OutgoingEdges(
                space.primitives,
                channels,
                stride=2 if reduction and state < 2 else 1,
                edges=nodes - max(0, state - 1),
            )
            for state in range(nodes + 1)
        )
        self.nodes = nodes

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        """Map the two previous cells' outputs to this cell's.

        Args:
            s0: output of the cell before the previous one, (batch, c_prev_prev, h0, w0).
            s1: output of the previous cell, (batch, c_prev, h, w).
            weights: softmaxed alphas, (num_edges, num_primitives).

        Returns:
            (batch, nodes * channels, h, w), or half of h and w in a reduction cell.
        """
        incoming: list[list[Tensor]] = [[] for _ in range(self.nodes)]
        outputs: list[Tensor] = []
        for state, edges in enumerate(self.states):
            if state == 0:
                x = self.preprocess0(s0)
            elif state == 1:
                x = self.preprocess1(s1)
            else:
                x = sum(incoming[state - 2])
                outputs.append(x)
            first = max(0, state - 1)
            rows = [edge_index(state, node) for node in range(first, self.nodes)]
            for node, out in enumerate(edges(x, weights[rows]), start=first):
                incoming[node].append(out)
        outputs.append(sum(incoming[-1]))
        return torch.cat(outputs, dim=1)

    def original_layout(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the original code's name of each weight of this cell, and our view of it."""
        for name in ("preprocess0", "preprocess1"):
            for key, parameter in getattr(self, name).named_parameters():
                yield f"{name}.{key}", parameter
        for node in range(self.nodes):
            for state in range(node + 2):
                edge = node - max(0, state - 1)
                for key, view in self.states[state].original_layout(edge):
                    yield f"_ops.{edge_index(state, node)}.{key}", view


def edge_index(state: int, node: int) -> int:
    """Return the row of alphas that belongs to the edge from `state` to `node`."""
    return sum(2 + i for i in range(node)) + state


class ConvSupernet(nn.Module):
    """The supernet that a convolutional search trains (section 2.2 of the paper).

    Args:
        channels: channels of the first cell's nodes; reduction cells double them.
        num_classes: size of the output.
        layers: number of cells.
        nodes: intermediate nodes per cell; None takes the space's.
        in_channels: channels of the images.
        stem_multiplier: the stem has `stem_multiplier * channels` channels.
        space: a named conv space or a `SearchSpace`.

    Raises:
        ConfigError: the space is not for conv cells, or an operation is not registered.
    """

    clips_virtual_step = False

    def __init__(
        self,
        channels: int = 16,
        num_classes: int = 10,
        layers: int = 8,
        nodes: int | None = 4,
        in_channels: int = 3,
        stem_multiplier: int = 3,
        space: str | SearchSpace = "darts",
    ) -> None:
        super().__init__()
        self.space = resolve_space(space)
        if self.space.kind != "conv":
            raise ConfigError(
                f"ConvSupernet: the space {self.space.name!r} is not for conv cells."
            )
        self.nodes = nodes or self.space.nodes
        self.layers = layers
        self.channels = channels
        c_stem = stem_multiplier * channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, c_stem, 3, padding=1, bias=False), nn.BatchNorm2d(c_stem)
        )
        self.cells = nn.ModuleList()
        c_prev_prev, c_prev, c_cell = c_stem, c_stem, channels
        reduction_prev = False
        for layer in range(layers):
            reduction = layer in reduction_layers(layers)
            c_cell *= 2 if reduction else 1
            self.cells.append(
                SupernetCell(
                    self.space, self.nodes, c_prev_prev, c_prev, c_cell, reduction, reduction_prev
                )
            )
            reduction_prev = reduction
            c_prev_prev, c_prev = c_prev, self.nodes * c_cell
        self.classifier = nn.Linear(c_prev, num_classes)
        forget_running_statistics(self)
        shape = (self.space.num_edges(self.nodes), len(self.space.primitives))
        self.alpha_normal = nn.Parameter(1e-3 * torch.randn(shape))
        self.alpha_reduce = nn.Parameter(1e-3 * torch.randn(shape))

    @property
    def alphas(self) -> dict[str, nn.Parameter]:
        """Raw alphas by cell kind, each of shape (num_edges, num_primitives)."""
        return {"normal": self.alpha_normal, "reduce": self.alpha_reduce}

    @property
    def weights(self) -> list[nn.Parameter]:
        """All network parameters, without the alphas."""
        return [p for name, p in self.named_parameters() if not name.startswith("alpha_")]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        weights = {kind: torch.softmax(alphas, dim=-1) for kind, alphas in self.alphas.items()}
        s0 = s1 = self.stem(images.contiguous(memory_format=torch.channels_last))
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, weights["reduce" if cell.reduction else "normal"])
        logits: Tensor = self.classifier(s1.mean(dim=(2, 3)))
        return logits

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of (images, labels)."""
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def initial_state(self, batch_size: int) -> State:
        """Return None: a conv network carries nothing from batch to batch."""
        return None

    def stateful_loss(
        self, batch: Batch, state: State, *, regularised: bool = False
    ) -> tuple[Tensor, State]:
        """Return `loss(batch)` and None; there is nothing to regularise."""
        return self.loss(batch), None

    def genotype(self) -> ConvGenotype:
        """Return the cells that the current alphas stand for."""
        genotype = derive(self.alphas, self.space)
        assert isinstance(genotype, ConvGenotype)
        return genotype

    def check_image_size(self, height: int, width: int) -> None:
        """Check that images of this size survive the reductions.

        Raises:
            ConfigError: they do not.
        """
        check_image_size(height, width, 2 ** len(reduction_layers(self.layers)))

    def original_layout(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the original code's name of each weight, and a view of ours that holds it."""
        for key, parameter in self.stem.named_parameters():
            yield f"stem.{key}", parameter
        for index, cell in enumerate(self.cells):
            for key, view in cell.original_layout():
                yield f"cells.{index}.{key}", view
        for key, parameter in self.classifier.named_parameters():
            yield f"classifier.{key}", parameter
