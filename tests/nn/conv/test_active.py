"""Running a few primitives only: values, gradients, and that nothing else runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from darts_ray.nn import ConvSupernet, Mixing
from darts_ray.nn.conv.connections import PartialChannels
from darts_ray.nn.conv.fused import edges

pytestmark = pytest.mark.usefixtures("one_thread")


def random_choice(supernet: ConvSupernet, share: float) -> Mixing:
    """Weights that are zero where a primitive does not run."""
    generator = torch.Generator().manual_seed(1)
    weights, active = {}, {}
    for name, (num_edges, columns) in supernet.space.alpha_shapes.items():
        chosen = torch.rand(num_edges, columns, generator=generator) < share
        for row, edge in enumerate(supernet.space.cell(name).edges):
            chosen[row, len(edge.primitives) :] = False
        p = torch.rand(num_edges, columns, generator=generator, dtype=torch.float64)
        weights[name] = (p * chosen).requires_grad_()
        active[name] = tuple(tuple(row.nonzero().flatten().tolist()) for row in chosen)
    return Mixing(weights, active)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("space", ["darts", "s1", "nasbench201"])
def test_active_primitives_give_the_same_values_and_gradients(
    space: str, share: float, fused: bool
) -> None:
    torch.manual_seed(0)
    supernet = ConvSupernet(4, 3, 3, space=space, fused=fused).double()
    batch = torch.randn(3, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2, 1])
    mixing = random_choice(supernet, share)
    values = []
    for given in (mixing, Mixing(mixing.weights)):
        loss = supernet.loss(batch, mixing=given)
        leaves = [*given.weights.values(), *supernet.weights]
        values.append((loss, torch.autograd.grad(loss, leaves, materialize_grads=True)))
    (loss, ours), (expected, theirs) = values
    torch.testing.assert_close(loss, expected)
    num_cells = len(mixing.weights)
    for mine, reference in zip(ours[num_cells:], theirs[num_cells:], strict=True):
        torch.testing.assert_close(mine, reference)
    for name, mine, reference in zip(mixing.weights, ours, theirs, strict=False):
        runs = torch.zeros(mine.shape, dtype=torch.bool)
        for row, columns in enumerate(mixing.active[name]):
            runs[row, list(columns)] = True
        torch.testing.assert_close(mine, reference * runs)  # a gradient of 0 where nothing runs


@pytest.mark.parametrize("connection", [None, PartialChannels(2)], ids=("direct", "partial"))
def test_second_derivatives_of_what_is_computed_again(connection: PartialChannels | None) -> None:
    """A Hessian-vector product through pools that the backward pass computes a second time."""
    products = []
    for fused in (True, False):
        torch.manual_seed(0)
        supernet = ConvSupernet(4, 3, 3, nodes=2, fused=fused, connection=connection).double()
        generator = torch.Generator().manual_seed(0)
        for _, view in supernet.plain_layout():
            view.data.normal_(generator=generator)
        images = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=generator)
        mixing = random_choice(supernet, 0.5)
        loss = supernet.loss((images, torch.tensor([0, 2, 1, 0])), mixing=mixing)
        gradients = torch.autograd.grad(
            loss, supernet.weights, create_graph=True, materialize_grads=True
        )
        square = sum((gradient * gradient).sum() for gradient in gradients)
        products.append(torch.autograd.grad(square, list(mixing.weights.values())))
    for ours, theirs in zip(*products, strict=True):
        assert theirs.norm() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * theirs.abs().max().item())


def test_nothing_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    supernet = ConvSupernet(4, 3, 2, nodes=2)
    calls: list[int] = []
    real = edges.mixed_convs

    def counted(x: Tensor, kernels: list, mix: Tensor, base: Tensor | None) -> Tensor:
        calls.append(len(kernels) * mix.shape[1])
        return real(x, kernels, mix, base)

    monkeypatch.setattr(edges, "mixed_convs", counted)
    images = torch.randn(2, 3, 8, 8)
    supernet(images)
    assert sum(calls) == 2 * 5 * 4  # cells, edges, convolutions
    calls.clear()
    p = {name: torch.ones(5, 8) for name in ("normal", "reduce")}
    rows = ((4,), (3,), (1,), (5, 6), ())
    supernet(images, Mixing(p, {"normal": rows, "reduce": rows}))
    assert sum(calls) == 2 * 3


def test_active_primitives_behind_a_connection() -> None:
    torch.manual_seed(0)
    supernet = ConvSupernet(4, 3, 3, nodes=3, connection=PartialChannels(2)).double()
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    mixing = random_choice(supernet, 0.3)
    torch.testing.assert_close(supernet(images, mixing), supernet(images, Mixing(mixing.weights)))


def test_noise_is_drawn_at_every_pass_and_on_every_edge() -> None:
    torch.manual_seed(0)
    supernet = ConvSupernet(4, 3, 1, nodes=1, space="s4")
    images = torch.zeros(500, 3, 4, 4)
    only_noise = {name: torch.tensor([[1.0, 0.0]] * 2) for name in ("normal", "reduce")}
    seen: list[Tensor] = []
    supernet.cells[0].register_forward_hook(lambda _, __, out: seen.append(out))
    supernet(images, Mixing(only_noise))
    supernet(images, Mixing(only_noise))
    assert seen[0].shape == (500, 8, 2, 2)  # the only cell reduces
    assert not torch.equal(seen[0], seen[1])
    # two edges: the sum of two independent standard normal numbers
    assert abs(seen[0].var() - 2) < 0.1
    assert abs(seen[0].mean()) < 0.05
    assert not [m for m in supernet.cells[0].modules() if isinstance(m, nn.BatchNorm2d)][2:]
