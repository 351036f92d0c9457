"""The convolutional supernet: every primitive on every edge, weighted by softmaxed alphas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.architecture import ArchitectureParameters
from darts_ray.nn.conv.fused.edges import Layout, OutgoingEdges
from darts_ray.nn.conv.image_size import check_image_size, reduction_layers
from darts_ray.nn.conv.operations import FactorizedReduce, ReLUConvNorm, forget_running_statistics
from darts_ray.nn.mixing import Mixing
from darts_ray.nn.supernet import Batch, State
from darts_ray.space import CellSpace, SearchSpace, resolve_space


class SupernetCell(nn.Module):
    """A cell whose every edge is a mixed op.

    Args:
        space: its edges and their primitives.
        c_prev_prev: channels of the output of the cell before the previous one.
        c_prev: channels of the output of the previous cell.
        channels: channels of each node.
        reduction: whether this cell halves the image.
        reduction_prev: whether the previous cell did.
    """

    def __init__(
        self,
        space: CellSpace,
        c_prev_prev: int,
        c_prev: int,
        channels: int,
        reduction: bool,
        reduction_prev: bool,
    ) -> None:
        super().__init__()
        self.space = space
        self.preprocess0: nn.Module
        if reduction_prev:
            self.preprocess0 = FactorizedReduce(c_prev_prev, channels, affine=False)
        else:
            self.preprocess0 = ReLUConvNorm(c_prev_prev, channels, affine=False)
        self.preprocess1 = ReLUConvNorm(c_prev, channels, affine=False)
        # The last node's edges leave the cell.
        self.states = nn.ModuleList(
            OutgoingEdges(
                space.primitives,
                channels,
                stride=2 if reduction and state < 2 else 1,
                edges=len(space.leaving(state)),
            )
            for state in range(space.nodes + 1)
        )

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        """Map the two previous cells' outputs to this cell's.

        Args:
            s0: output of the cell before the previous one, (batch, c_prev_prev, h0, w0).
            s1: output of the previous cell, (batch, c_prev, h, w).
            weights: softmaxed alphas, (num_edges, num_primitives).

        Returns:
            (batch, num_outputs * channels, h, w), or half of h and w in a reduction cell.
        """
        inputs = [self.preprocess0(s0), self.preprocess1(s1)]
        nodes: list[Tensor | None] = [None] * self.space.nodes
        for state, edges in enumerate(self.states):
            x = inputs[state] if state < 2 else nodes[state - 2]
            leaving = self.space.leaving(state)
            # stacked, not indexed by a list: that would wait for a copy to the device
            rows = torch.stack([weights[row] for row in leaving])
            for row, addend in zip(leaving, edges(x, rows), strict=True):
                node = self.space.edges[row].node
                total = nodes[node]
                nodes[node] = addend if total is None else total + addend
        outputs = [nodes[state - 2] for state in self.space.output_states]
        return torch.cat([node for node in outputs if node is not None], dim=1)

    def original_layout(self) -> Layout:
        """Yield the original code's name of each weight of this cell, and our view of it."""
        for name in ("preprocess0", "preprocess1"):
            for key, parameter in getattr(self, name).named_parameters():
                yield f"{name}.{key}", parameter
        for row, edge in enumerate(self.space.edges):
            outgoing = cast(OutgoingEdges, self.states[edge.source])
            for key, view in outgoing.original_layout(self.space.leaving(edge.source).index(row)):
                yield f"_ops.{row}.{key}", view


class _Rows:
    """Hands out the weights of one cell after the other."""

    def __init__(self, weights: dict[str, Tensor], edges: Mapping[str, Tensor] | None) -> None:
        self._weights, self._edges = weights, edges or {}
        self._counts: Counter[str] = Counter()

    def next(self, name: str) -> Tensor:
        """Return the next cell's weights, (edges, columns)."""
        p, factor = self._weights[name], self._edges.get(name)
        if p.dim() == 3:
            p = p[self._counts[name]]
            self._counts[name] += 1
        return p if factor is None else p * factor.to(p).unsqueeze(-1)


class ConvSupernet(ArchitectureParameters):
    """The supernet that a convolutional search trains (section 2.2 of the paper).

    It computes what one module per edge and primitive would, and its gradients, to rounding
    (`tests/reference/conv_supernet.py`), but handles all edges that leave a state together; see
    `mixed` for how and why. Images are made channels-last. Losses can be differentiated twice.

    Deliberate corrections of the original code: batch normalisations keep no running statistics
    and use batch statistics in evaluation too, as the paper says (A.1.1); alphas are Parameters
    and appear in `state_dict` (`alpha_normal`, `alpha_reduce`) but not in `weights`; the number
    of nodes, the output multiplier (of the space) and the primitives may vary; odd image sizes
    work.

    Layout of the weights, for cell i and the edge from state j to node n (e counts the edges that
    leave j: e = n - max(0, j - 1)), with C the cell's channels; `original_layout` yields it as
    pairs of the original code's names (left) and views of ours:

    | `cells.i._ops.EDGE._ops.COLUMN.` | ours, `cells.i.states.j.`              | rows of dim 0 |
    |----------------------------------|----------------------------------------|---------------|
    | `op.1.weight` (sep, dil)         | `convs.PRIMITIVE.depthwise.0`          | e*C to (e+1)*C|
    | `op.2.weight` (sep, dil)         | `convs.PRIMITIVE.pointwise.0`          | e*C to (e+1)*C|
    | `op.5.weight` (sep)              | `convs.PRIMITIVE.depthwise.1`          | e*C to (e+1)*C|
    | `op.6.weight` (sep)              | `convs.PRIMITIVE.pointwise.1`          | e*C to (e+1)*C|
    | `conv_1.weight` (skip, stride 2) | `others.skip_connect.conv_1`           | e*C/2 to ...  |
    | `conv_2.weight` (skip, stride 2) | `others.skip_connect.conv_2`           | e*C/2 to ...  |
    | a registered operation's         | `others.PRIMITIVE.edges.e.` + its name | all           |

    Stem, preprocessing and classifier have the original names and shapes.

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
        nodes: int | None = None,
        in_channels: int = 3,
        stem_multiplier: int = 3,
        space: str | SearchSpace = "darts",
    ) -> None:
        super().__init__()
        self.space = resolve_space(space).resized(nodes)
        if self.space.skeleton != "darts":
            raise ConfigError(
                f"ConvSupernet: the space {self.space.name!r} is not for conv cells."
            )
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
            cell = self.space.cell("reduce" if reduction else "normal")
            self.cells.append(
                SupernetCell(cell, c_prev_prev, c_prev, c_cell, reduction, reduction_prev)
            )
            reduction_prev = reduction
            c_prev_prev, c_prev = c_prev, len(cell.output_states) * c_cell
        self.classifier = nn.Linear(c_prev, num_classes)
        forget_running_statistics(self)
        self._add_architecture(self.space, self.space.alpha_shapes)

    def forward(self, images: Tensor, mixing: Mixing | None = None) -> Tensor:
        """Return logits (batch, num_classes).

        Args:
            images: (batch, in_channels, height, width).
            mixing: weights of primitives and edges; default: the softmax of the alphas.

        Raises:
            ConfigError: the images are too small, or the mixing does not fit.
        """
        self.check_image_size(*images.shape[-2:])
        mixing = mixing or self.mixing()
        rows = _Rows(self._masked_weights(mixing), mixing.edges)
        s0 = s1 = self.stem(images.contiguous(memory_format=torch.channels_last))
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, rows.next(cast(SupernetCell, cell).space.name))
        logits: Tensor = self.classifier(s1.mean(dim=(2, 3)))
        return logits

    def loss(
        self,
        batch: Batch,
        state: State = None,
        *,
        mixing: Mixing | None = None,
        regularised: bool = False,
    ) -> Tensor:
        """Return the mean cross-entropy of (images, labels); there is nothing to regularise."""
        images, labels = batch
        return F.cross_entropy(self(images, mixing), labels)

    def initial_state(self, batch_size: int) -> State:
        """Return None: a conv network carries nothing from batch to batch."""
        return None

    def stateful_loss(
        self,
        batch: Batch,
        state: State,
        *,
        mixing: Mixing | None = None,
        regularised: bool = False,
    ) -> tuple[Tensor, State]:
        """Return `loss(batch)` and None."""
        return self.loss(batch, mixing=mixing), None

    def check_image_size(self, height: int, width: int) -> None:
        """Check that images of this size survive the reductions.

        Raises:
            ConfigError: they do not.
        """
        check_image_size(height, width, 2 ** len(reduction_layers(self.layers)))

    def original_layout(self) -> Layout:
        """Yield the original code's name of each weight, and a view of ours that holds it.

        Writing to the views loads weights. The original's batch normalisations have further
        entries, running statistics, which have no counterpart here.
        """
        for key, parameter in self.stem.named_parameters():
            yield f"stem.{key}", parameter
        for index, cell in enumerate(self.cells):
            for key, view in cast(SupernetCell, cell).original_layout():
                yield f"cells.{index}.{key}", view
        for key, parameter in self.classifier.named_parameters():
            yield f"classifier.{key}", parameter
