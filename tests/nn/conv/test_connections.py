from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn import ConvSupernet, Mixing
from darts_ray.nn.conv.chained import Chain
from darts_ray.nn.conv.connections import (
    AuxiliarySkip,
    Connection,
    Direct,
    EdgeDropPath,
    PartialChannels,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def wrap(connection: Connection, x: Tensor, stride: int = 1, edge_weights: Tensor | None = None):
    """Two nodes of one edge each: p times the input, or nothing on the second."""
    modules = connection.make_modules(x.shape[1], stride, 2)

    def run_ops(x: Tensor, p: Tensor) -> list[Tensor | None]:
        return [p[0, 0] * x[:, :, ::stride, ::stride], None]

    p = torch.full((2, 1), 10.0)
    addends = connection.wrap(run_ops, x, p, edge_weights, modules, stride)
    return [connection.add_up([addend]) for addend in addends]


def test_edge_weights_scale_what_operations_add_up_to() -> None:
    x = torch.randn(2, 4, 3, 3)
    first, second = wrap(Direct(), x, edge_weights=torch.tensor([0.5, 3.0]))
    torch.testing.assert_close(first, 5 * x)
    assert second is None


def test_partial_channels_by_hand() -> None:
    x = torch.arange(1.0, 7).view(1, 6, 1, 1)
    first, second = wrap(PartialChannels(3), x)
    # ops on 1 and 2; rest 3, 4 | 5, 6; one channel of each group in turn
    assert first.flatten().tolist() == [10, 3, 5, 20, 4, 6]
    assert second.flatten().tolist() == [0, 3, 5, 0, 4, 6]
    first, _ = wrap(PartialChannels(3), x, edge_weights=torch.tensor([2.0, 1.0]))
    assert first.flatten().tolist() == [20, 6, 10, 40, 8, 12]


def test_the_bypass_of_a_reduction_is_a_max_pool() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4).repeat(1, 2, 1, 1)
    first, _ = wrap(PartialChannels(2), x, stride=2)
    assert first[0, 0].tolist() == [[0, 20], [80, 100]]
    assert first[0, 1].tolist() == [[5, 7], [13, 15]]


def test_partial_channels_refuse_what_they_cannot_divide() -> None:
    with pytest.raises(ConfigError, match="6 channels cannot be divided into 4 parts"):
        ConvSupernet(channels=6, layers=3, connection=PartialChannels(4))
    supernet = ConvSupernet(channels=4, layers=3, nodes=1, connection=PartialChannels(2))
    with pytest.raises(ConfigError, match="5x3 pixels cannot be halved"):
        supernet.check_image_size(10, 6)
    supernet.check_image_size(8, 12)
    with pytest.raises(ConfigError, match="k must be at least 1"):
        PartialChannels(0)


def test_partial_channels_have_a_quarter_of_the_operations_weights() -> None:
    whole = ConvSupernet(channels=8, layers=1, nodes=2)
    part = ConvSupernet(channels=8, layers=1, nodes=2, connection=PartialChannels(4))
    name = "cells.0.states.2.convs.sep_conv_3x3.pointwise.0"
    assert whole.get_parameter(name).shape == (16, 16, 1, 1)
    assert part.get_parameter(name).shape == (4, 4, 1, 1)


def test_an_auxiliary_skip_adds_beta_times_the_input() -> None:
    connection = AuxiliarySkip()
    x = torch.randn(2, 4, 3, 3)
    for beta in (1.0, 0.25, 0.0):
        connection.beta = beta
        first, second = wrap(connection, x)
        torch.testing.assert_close(first, (10 + beta) * x)
        torch.testing.assert_close(second, beta * x)
    connection.beta = 0.5
    first, _ = wrap(connection, x, edge_weights=torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(first, 21 * x)


def test_the_auxiliary_skip_of_a_reduction_belongs_to_its_edge() -> None:
    supernet = ConvSupernet(channels=4, layers=1, nodes=2, connection=AuxiliarySkip(0.5)).double()
    # layer 0 of one reduces: two inputs, each with two edges
    names = [name for name, _ in supernet.named_parameters() if ".connections." in name]
    assert names == [f"cells.0.connections.{i}.conv_{j}" for i in (0, 1) for j in (1, 2)]
    mixing = Mixing({name: torch.zeros(5, 8) for name in ("normal", "reduce")})
    images = torch.randn(3, 3, 6, 6, dtype=torch.float64)
    # without operations: node 0 the reduced inputs, node 1 the same of its own and half of node 0
    outputs: list[Tensor] = []
    supernet.lastact.register_forward_hook(lambda _, inputs, out: outputs.append(out))
    supernet(images, mixing)
    cell = supernet.cells[0]
    s = [cell.preprocess0(supernet.stem(images)), cell.preprocess1(supernet.stem(images))]

    def reduced(state: int, edge: int) -> Tensor:
        part = slice(4 * edge, 4 * edge + 4)  # 8 channels in a reduction
        x = s[state].relu()
        halves = [
            nn.functional.conv2d(x[:, :, ::2, ::2], cell.connections[state].conv_1[part]),
            nn.functional.conv2d(x[:, :, 1::2, 1::2], cell.connections[state].conv_2[part]),
        ]
        return nn.functional.batch_norm(torch.cat(halves, 1), None, None, training=True)

    node0 = 0.5 * (reduced(0, 0) + reduced(1, 0))
    node1 = 0.5 * (reduced(0, 1) + reduced(1, 1) + node0)
    torch.testing.assert_close(outputs[0], torch.cat([node0, node1], 1))


def test_drop_path_drops_samples_of_edges_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    connection = EdgeDropPath(0.25)
    x = torch.ones(4000, 2, 2, 2)
    first, second = wrap(connection, x)
    assert second is None
    per_sample = first[:, 0, 0, 0]
    assert (first == per_sample[:, None, None, None]).all()
    assert per_sample.unique().tolist() == pytest.approx([0, 40 / 3])
    # standard error of the mean: 10 * sqrt(0.25 / 0.75 / 4000) = 0.09
    assert abs(per_sample.mean() - 10) < 0.4


def small(connection: Connection) -> tuple[ConvSupernet, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    supernet = ConvSupernet(channels=4, layers=2, nodes=2, num_classes=3, connection=connection)
    return supernet, (torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))


def test_drop_path_repeats_with_the_generator_and_rests_in_evaluation() -> None:
    connection = EdgeDropPath()
    supernet, batch = small(connection)
    expected = supernet.loss(batch)
    connection.probability = 0.5
    state = torch.get_rng_state()
    first = supernet.loss(batch)
    torch.set_rng_state(state)
    assert torch.equal(supernet.loss(batch), first)
    assert supernet.loss(batch) != first
    assert first != expected
    supernet.eval()
    assert torch.equal(supernet.loss(batch), expected)


def test_connections_in_a_chain() -> None:
    x = torch.arange(1.0, 5).view(1, 4, 1, 1)
    chain = Chain(AuxiliarySkip(0.5), PartialChannels(2))
    assert chain.channels(8) == 4
    first, _ = wrap(chain, x, edge_weights=torch.tensor([2.0, 1.0]))
    # partial channels: 10, 3, 20, 4; plus half the input; twice
    assert first.flatten().tolist() == [21, 8, 43, 12]
    supernet, batch = small(Chain(PartialChannels(2), EdgeDropPath(0.3)))
    assert supernet.loss(batch).isfinite()
    with pytest.raises(ConfigError, match="cannot be halved"):
        supernet.check_image_size(7, 8)
