"""Recurrent cells: the mixed one that is searched, and the one that a genotype describes.

States are kept transposed, as (hidden, batch) matrices. All edges that leave one state are then
a single product `W^T (nodes * 2 * hidden, hidden) @ s (hidden, batch)` whose result has the gate
and the candidate of each node in contiguous blocks, and the batch normalisation of the search
runs along rows in memory. W itself is (hidden, nodes * 2 * hidden) in memory: with that layout
all three products of forward and backward pass run at full speed on CPUs. Time steps share the
product for the gradient of W (see `recurrent_products`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.recurrent.activations import resolve_activations
from darts_ray.nn.recurrent.dropout import SequenceMasks, apply_mask
from darts_ray.nn.recurrent.fused.mixing import mixed_edges
from darts_ray.nn.recurrent.fused.products import SharedMatrix
from darts_ray.space import CellSpace, Genotype

INIT_RANGE = 0.04  # of the original code, for every matrix of a recurrent network

Share = Callable[[Tensor], SharedMatrix]
"""Announces that every time step multiplies this matrix by one state."""

Transition = Callable[[Tensor], Tensor]
"""From the transformed input s0 to the cell's output, both of shape (hidden, batch)."""


class RecurrentCell(nn.Module, ABC):
    """What both cells share: the weights, the transformed input and the loop over time.

    `[c0, h0] = W0 [x * mask_x, h * mask_h]`, `s0 = h + sigmoid(c0) * (tanh(h0) - h)`, no bias.

    Attributes:
        input_weight: the transpose of W0, shape (inputs + hidden, 2 * hidden).
        node_weights: the transpose of one matrix per node, which all edges into the node share,
            shape (nodes, hidden, 2 * hidden).

    Args:
        inputs: features of the input.
        hidden: units.
        nodes: intermediate nodes.
    """

    def __init__(self, inputs: int, hidden: int, nodes: int) -> None:
        super().__init__()
        self.input_weight = nn.Parameter(torch.empty(inputs + hidden, 2 * hidden))
        self.node_weights = nn.Parameter(torch.empty(nodes, hidden, 2 * hidden))
        for weight in (self.input_weight, self.node_weights):
            nn.init.uniform_(weight, -INIT_RANGE, INIT_RANGE)

    def forward(
        self, inputs: Tensor, hidden: Tensor, masks: SequenceMasks, p: Tensor | None = None
    ) -> Tensor:
        """Run a sequence.

        Args:
            inputs: shape (time, batch, inputs).
            hidden: the state before the sequence, shape (batch, hidden).
            masks: dropout masks of the sequence.
            p: weights of a mixed cell's primitives, shape (num_edges, num_primitives).

        Returns:
            the outputs, shape (time, batch, hidden); in memory the hidden axis comes first.
        """
        weights = _autocast_once(self.input_weight), _autocast_once(self.node_weights)
        features = inputs.shape[2]
        from_input, from_hidden = weights[0][:features].t(), weights[0][features:].t()
        # The input's share of all time steps is one product, outside the loop.
        projected = from_input @ apply_mask(inputs, masks.input).transpose(1, 2)
        mask = None if masks.hidden is None else masks.hidden.t().contiguous()
        share = partial(SharedMatrix, steps=len(inputs), batch=inputs.shape[1])
        recurrent = share(from_hidden)
        transition = self._transition(weights[1], share, mask, p)
        h = hidden.t().contiguous()
        outputs = []
        for part in projected.unbind():
            c0, h0 = (part + recurrent @ apply_mask(h, mask)).to(h.dtype).chunk(2)
            h = transition(torch.lerp(h, h0.tanh(), c0.sigmoid()))
            outputs.append(h)
        return torch.stack(outputs, 1).permute(1, 2, 0)

    @abstractmethod
    def _transition(
        self, node_weights: Tensor, share: Share, mask: Tensor | None, p: Tensor | None
    ) -> Transition:
        """Return the step over the nodes, with all work done that is the same at each time.

        Args:
            node_weights: shape (nodes, hidden, 2 * hidden).
            share: prepares each matrix that a step multiplies by a state.
            mask: dropout mask of the states, shape (hidden, batch).
            p: as in `forward`.
        """


class MixedRecurrentCell(RecurrentCell):
    """The relaxed cell: every state feeds every later node through all primitives.

    The output is the mean of the nodes. s0 and each node are normalised over the batch, without
    affine parameters; the same normalisation serves all nodes and time steps. It uses the
    statistics of the batch in evaluation too. That is a deliberate correction: the original
    code evaluated with running statistics that its finite differences had polluted.

    Args:
        inputs: features of the input.
        hidden: units.
        cell: topology; every state feeds every later node, all edges have the same primitives.
            `none` takes part in the softmax and adds nothing.

    Raises:
        ConfigError: the topology is another one, or an activation is unknown.
    """

    _columns: Tensor
    _rows: Tensor

    def __init__(self, inputs: int, hidden: int, cell: CellSpace) -> None:
        super().__init__(inputs, hidden, cell.nodes)
        primitives = cell.primitives
        if cell.inputs != 1 or cell.num_edges != cell.nodes * (cell.nodes + 1) // 2:
            raise ConfigError(
                f"A recurrent supernet needs a cell with one input in which every state feeds"
                f" every later node; {cell.name!r} is another."
            )
        self._activations = resolve_activations(name for name in primitives if name != "none")
        columns = [k for k, name in enumerate(primitives) if name != "none"]
        self._cell = cell
        rows = [row for state in range(cell.nodes) for row in cell.leaving(state)]
        self.register_buffer("_columns", torch.tensor(columns), persistent=False)
        self.register_buffer("_rows", torch.tensor(rows), persistent=False)

    def _transition(
        self, node_weights: Tensor, share: Share, mask: Tensor | None, p: Tensor | None
    ) -> Transition:
        assert p is not None
        nodes, _, double = node_weights.shape
        p = p.index_select(1, self._columns).index_select(0, self._rows).t()[..., None, None]
        by_source = torch.split(p, [nodes - state for state in range(nodes)], dim=1)
        by_input = node_weights.transpose(0, 1).flatten(1)
        matrices = [share(by_input[:, j * double :].t()) for j in range(nodes)]

        def transition(s0: Tensor) -> Tensor:
            s = _normalise(s0)
            sums: Sequence[Tensor] = ()
            states = []
            for matrix, weights in zip(matrices, by_source, strict=True):
                z = (matrix @ apply_mask(s, mask)).view(-1, double, s.shape[1])
                edges = mixed_edges(z, s, weights, self._activations).unbind()
                # The first sum is complete: no later state feeds its node.
                sums = [a + b for a, b in zip(sums[1:], edges, strict=True)] if sums else edges
                s = _normalise(sums[0])
                states.append(s)
            return torch.stack(states).mean(0)

        return transition


class PlainMixedRecurrentCell(MixedRecurrentCell):
    """The relaxed cell as the paper has it: every activation of every edge on its own.

    Slow and obvious, with the parameters of `MixedRecurrentCell`, which computes the same.
    """

    def _transition(
        self, node_weights: Tensor, share: Share, mask: Tensor | None, p: Tensor | None
    ) -> Transition:
        assert p is not None
        weights = p.index_select(1, self._columns)  # (edges, activations)

        def transition(s0: Tensor) -> Tensor:
            states = [_normalise(s0)]
            for node, matrix in enumerate(node_weights):
                total = torch.zeros_like(s0)
                for source, s in enumerate(states):
                    c, h = (matrix.t() @ apply_mask(s, mask)).to(s.dtype).chunk(2)
                    for weight, f in zip(
                        weights[self._cell.row(source, node)], self._activations, strict=True
                    ):
                        total = total + weight * (s + c.sigmoid() * (f.function(h) - s))
                states.append(_normalise(total))
            return torch.stack(states[1:]).mean(0)

        return transition


class DerivedRecurrentCell(RecurrentCell):
    """The cell of a genotype: one predecessor j and one activation f per node i.

    `[c, h] = W_i (s_j * mask)`, `s_i = s_j + sigmoid(c) * (f(h) - s_j)`. The output is the mean
    of the states in the genotype's concat; there is no normalisation.

    Args:
        inputs: features of the input.
        hidden: units.
        genotype: activation and predecessor of each node.
    """

    def __init__(self, inputs: int, hidden: int, genotype: Genotype) -> None:
        super().__init__(inputs, hidden, len(genotype.recurrent))
        self._predecessors = [edge.predecessor for edge in genotype.recurrent]
        self._activations = resolve_activations(edge.primitive for edge in genotype.recurrent)
        self._concat = genotype.concat

    def _transition(
        self, node_weights: Tensor, share: Share, mask: Tensor | None, p: Tensor | None
    ) -> Transition:
        matrices = node_weights.unbind()
        successors: dict[int, list[int]] = defaultdict(list)
        for node, predecessor in enumerate(self._predecessors):
            successors[predecessor].append(node)
        # Nodes with the same predecessor share one product.
        joined = {
            j: share(torch.cat([matrices[i] for i in nodes], 1).t())
            for j, nodes in successors.items()
        }

        def transition(s0: Tensor) -> Tensor:
            states = [s0]
            products: dict[int, Tensor] = {}
            for node, predecessor in enumerate(self._predecessors):
                s = states[predecessor]
                if node not in products:
                    z = (joined[predecessor] @ apply_mask(s, mask)).to(s.dtype)
                    nodes = successors[predecessor]
                    products.update(zip(nodes, z.chunk(len(nodes)), strict=True))
                c, h = products[node].chunk(2)
                states.append(torch.lerp(s, self._activations[node].function(h), c.sigmoid()))
            return torch.stack([states[i] for i in self._concat]).mean(0)

        return transition


def _normalise(s: Tensor) -> Tensor:
    """Normalise each unit over the batch: batch normalisation without affine parameters.

    Args:
        s: shape (hidden, batch).

    Raises:
        ConfigError: the batch has one column, whose normalised states would all be zero.
    """
    if s.shape[1] == 1:
        raise ConfigError(
            "A recurrent supernet normalises over the batch, so its batches need at least two"
            " columns: raise batch_size or eval_batch_size."
        )
    return F.layer_norm(s, s.shape[1:])


def _autocast_once(weight: Tensor) -> Tensor:
    """Convert a matrix to autocast's precision now; in the loop each time step would do it."""
    device = weight.device.type
    if torch.is_autocast_enabled(device):
        return weight.to(torch.get_autocast_dtype(device))
    return weight
