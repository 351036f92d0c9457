"""The convolutional supernet: every primitive on every edge, weighted by mixing weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.architecture import ArchitectureParameters
from darts_ray.nn.conv.connections import Connection
from darts_ray.nn.conv.operations import forget_running_statistics
from darts_ray.nn.conv.skeleton import (
    ResidualBlock,
    check_image_size,
    inputs_of,
    make_head,
    make_preprocessing,
    make_stem,
    places,
)
from darts_ray.nn.conv.supernet_cell import SupernetCell
from darts_ray.nn.mixing import Active, Mixing
from darts_ray.nn.supernet import Batch, State
from darts_ray.space import SearchSpace, resolve_space

_OF_EDGES = re.compile(r"cells\.\d+\.(states|edges)\.")
"""Names of the weights that edges have."""


class _CellMixing(NamedTuple):
    p: Tensor
    edges: Tensor | None
    active: Active | None


class _CellMixings:
    """Hands out the mixing of one cell after the other."""

    def __init__(self, weights: Mapping[str, Tensor], mixing: Mixing) -> None:
        self._weights, self._edges = weights, mixing.edges or {}
        self._active = mixing.active or {}
        self._counts: Counter[str] = Counter()

    def next(self, name: str) -> _CellMixing:
        """Return the next cell's p (edges, columns), edge factors and active primitives."""
        p, edges = self._weights[name], self._edges.get(name)
        count = self._counts[name]
        self._counts[name] += 1
        p = p[count] if p.dim() == 3 else p
        if edges is not None:
            edges = (edges[count] if edges.dim() == 2 else edges).to(p)
        return _CellMixing(p, edges, self._active.get(name))


class ConvSupernet(ArchitectureParameters):
    """The supernet that a convolutional search trains (section 2.2 of the paper).

    It computes what one module per edge and primitive would, and its gradients, to rounding
    (`fused=False` is just that), but handles all edges that leave a state together; see
    `fused.edges` for how and why. Images are made channels-last. Losses can be differentiated
    twice.

    Deliberate corrections of the original code: batch normalisations keep no running statistics
    and use batch statistics in evaluation too, as the paper says (A.1.1); alphas are Parameters
    and appear in `state_dict` (`alpha_normal`, `alpha_reduce`) but not in `weights`; the number
    of nodes, the output multiplier (of the space) and the primitives may vary; odd image sizes
    work.

    Layout of the weights, for cell i and the edge from state j that is the e-th of those that
    leave j and have the primitive, with C the channels that operations see. `plain_layout` yields
    it as pairs of the plain supernet's names (left, of alpha row ROW) and views of ours:

    | `cells.i.edges.ROW.ops.COLUMN.` | fused, `cells.i.states.j.`             | rows of dim 0 |
    |---------------------------------|----------------------------------------|---------------|
    | `op.1.weight` (sep, dil)        | `convs.PRIMITIVE.depthwise.0`          | e*C to (e+1)*C|
    | `op.2.weight` (sep, dil)        | `convs.PRIMITIVE.pointwise.0`          | e*C to (e+1)*C|
    | `op.5.weight` (sep)             | `convs.PRIMITIVE.depthwise.1`          | e*C to (e+1)*C|
    | `op.6.weight` (sep)             | `convs.PRIMITIVE.pointwise.1`          | e*C to (e+1)*C|
    | `conv_1.weight` (skip, stride 2)| `others.skip_connect.conv_1`           | e*C/2 to ...  |
    | `conv_2.weight` (skip, stride 2)| `others.skip_connect.conv_2`           | e*C/2 to ...  |
    | `op.1.weight` (nor_conv)        | `others.PRIMITIVE.weight`              | e*C to (e+1)*C|
    | a registered operation's        | `others.PRIMITIVE.edges.e.` + its name | all           |

    All other weights have the same names in both.

    Args:
        channels: channels of the first cell's nodes; reductions double them.
        num_classes: size of the output.
        layers: number of cells; in the `nasbench201` skeleton 3 N for N per stage (3 N + 2, which
            counts the residual blocks, means the same).
        nodes: intermediate nodes per cell; None takes the space's.
        in_channels: channels of the images.
        stem_multiplier: the stem of the `darts` skeleton has `stem_multiplier * channels`
            channels, that of `nasbench201` always `channels`.
        space: a named conv space or a `SearchSpace`.
        fused: compute all edges that leave a state together; False is the plain supernet, one
            module per edge and primitive, slow and obvious.
        connection: what surrounds the operations of the edges, see `connections`.

    Attributes:
        connection: as above, whose settings may be changed between epochs; None.

    Raises:
        ConfigError: the space is not for conv cells, an operation is not registered, or sizes do
            not fit skeleton or connection.
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
        fused: bool = True,
        connection: Connection | None = None,
    ) -> None:
        super().__init__()
        space = resolve_space(space).resized(nodes)
        self.skeleton = space.skeleton
        if space.skeleton == "language_model":
            raise ConfigError(f"ConvSupernet: the space {space.name!r} is not for conv cells.")
        self.layers, self.channels, self.fused = layers, channels, fused
        self.connection = connection
        c_stem = stem_multiplier * channels if self.skeleton == "darts" else channels
        self.stem = make_stem(in_channels, c_stem)
        self.cells = nn.ModuleList()
        c_prev_prev = c_prev = c_stem
        for place in places(self.skeleton, channels, layers):
            if not place.name:
                self.cells.append(ResidualBlock(c_prev, place.channels))
                c_prev_prev, c_prev = c_prev, place.channels
                continue
            preprocessing = None
            if self.skeleton == "darts":
                preprocessing = make_preprocessing(
                    c_prev_prev, c_prev, place.channels, place.reduction_prev, affine=False
                )
            cell = SupernetCell(
                space.cell(place.name),
                self.skeleton,
                place.channels,
                place.reduction,
                preprocessing,
                fused,
                connection,
            )
            self.cells.append(cell)
            c_prev_prev, c_prev = c_prev, cell.out_channels
        self.lastact = make_head(self.skeleton, c_prev)
        self.classifier = nn.Linear(c_prev, num_classes)
        forget_running_statistics(self)
        self._add_architecture(space, space.alpha_shapes)

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
        mixings = _CellMixings(self._masked_weights(mixing), mixing)
        out = self.stem(images.contiguous(memory_format=torch.channels_last))
        outputs = [self._read(out)] * 2
        for index, cell in enumerate(self.cells):
            if isinstance(cell, ResidualBlock):
                out = cell(outputs[-1])
            else:
                inputs = outputs[-inputs_of(self.skeleton) :]
                out = cell(inputs, *mixings.next(cast(SupernetCell, cell).name))
            if index < len(self.cells) - 1:
                out = self._read(out)
            outputs = [outputs[-1], out]
        logits: Tensor = self.classifier(self.lastact(outputs[-1]).mean(dim=(2, 3)))
        return logits

    def _read(self, out: Tensor) -> Tensor:
        """Return an output as cells read it: two begin with its ReLU, and this is done once."""
        return F.relu(out) if self.skeleton == "darts" else out

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
        reductions = sum(p.reduction for p in places(self.skeleton, self.channels, self.layers))
        check_image_size(height, width, 2**reductions)
        if self.connection is not None and self.skeleton == "darts":
            for _ in range(reductions):
                self.connection.check_map(height, width)
                height, width = -(-height // 2), -(-width // 2)

    def plain_layout(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each weight's name in the plain supernet, and a view of ours that holds it.

        Writing to the views loads weights.
        """
        for name, parameter in self.named_parameters():
            if not name.startswith("alpha_") and not _OF_EDGES.match(name):
                yield name, parameter
        for index, cell in enumerate(self.cells):
            if isinstance(cell, SupernetCell):
                for row in range(cell.cell.num_edges):
                    for key, view in cell.edge_weights(row):
                        yield f"cells.{index}.edges.{row}.ops.{key}", view
