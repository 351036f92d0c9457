"""What every supernet fulfils: mixing weights as an argument, alphas, masks, saved state.

Add a supernet of your own to `SUPERNETS` to see whether it does.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn import (
    ConvSupernet,
    Mixing,
    RecurrentDropout,
    RecurrentSupernet,
    one_hot,
    softmax_mixing,
)
from darts_ray.space import ConvGenotype, RecurrentGenotype

pytestmark = pytest.mark.usefixtures("one_thread")


def conv() -> tuple[ConvSupernet, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    net = ConvSupernet(channels=4, layers=3, nodes=2, num_classes=3).double()
    return net, (torch.randn(3, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2, 1]))


def recurrent() -> tuple[RecurrentSupernet, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    net = RecurrentSupernet(7, 4, 4, 3, RecurrentDropout(0, 0, 0, 0, 0)).double()
    with torch.no_grad():
        for weight in net.weights:
            weight.normal_(std=0.5)
    tokens = torch.randint(7, (5, 3))
    return net, (tokens[:-1], tokens[1:])


def plain_conv() -> tuple[ConvSupernet, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    net = ConvSupernet(4, 3, 3, nodes=2, fused=False).double()
    return net, conv()[1]


def nasbench201() -> tuple[ConvSupernet, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return ConvSupernet(4, 3, 3, space="nasbench201").double(), conv()[1]


def per_edge() -> tuple[ConvSupernet, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return ConvSupernet(4, 3, 3, space="s1").double(), conv()[1]


def plain_recurrent() -> tuple[RecurrentSupernet, tuple[Tensor, Tensor]]:
    fused, batch = recurrent()
    net = RecurrentSupernet(7, 4, 4, 3, RecurrentDropout(0, 0, 0, 0, 0), fused=False).double()
    net.load_state_dict(fused.state_dict())
    return net, batch


SUPERNETS = [conv, plain_conv, nasbench201, per_edge, recurrent, plain_recurrent]
EACH = pytest.mark.parametrize("make", SUPERNETS)
Make = Callable[[], tuple[nn.Module, tuple[Tensor, Tensor]]]


def padded_softmax(row: Tensor, primitives: tuple[str, ...]) -> Tensor:
    p = row[: len(primitives)].softmax(-1)
    return torch.cat([p, torch.zeros(len(row) - len(p), dtype=p.dtype)])


@EACH
def test_the_default_is_the_softmax_of_the_alphas(make: Make) -> None:
    net, batch = make()
    with torch.no_grad():
        for alpha in net.alphas.values():
            alpha.normal_()
    given = Mixing(
        {
            name: torch.stack(
                [
                    padded_softmax(row, edge.primitives)
                    for row, edge in zip(alpha, net.space.cell(name).edges, strict=True)
                ]
            )
            for name, alpha in net.alphas.items()
        }
    )
    torch.testing.assert_close(net.loss(batch), net.loss(batch, mixing=given))
    assert torch.equal(net.loss(batch), net.stateful_loss(batch, None, mixing=net.mixing())[0])


@EACH
def test_the_gradient_in_p_pulled_back_is_that_of_the_alphas(make: Make) -> None:
    net, batch = make()
    alphas = list(net.alphas.values())
    expected = torch.autograd.grad(net.loss(batch), alphas)
    mixing = softmax_mixing(net.alphas, net.space)
    p = [weights.detach().requires_grad_() for weights in mixing.weights.values()]
    leaves = Mixing(dict(zip(mixing.weights, p, strict=True)))
    g = torch.autograd.grad(net.loss(batch, mixing=leaves), p)
    pulled = torch.autograd.grad(list(mixing.weights.values()), alphas, g)
    for ours, theirs in zip(pulled, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


@EACH
def test_masked_primitives_have_no_weight_and_no_gradient(make: Make) -> None:
    net, batch = make()
    name = next(iter(net.mask))
    net.mask[name][1, 1] = False
    without = dict(net.mixing().weights)
    without[name] = without[name].detach().clone()
    without[name][1, 1] = 0
    masked = net.loss(batch)
    net.mask[name][1, 1] = True
    assert torch.equal(masked, net.loss(batch, mixing=Mixing(without)))
    assert masked != net.loss(batch)


@EACH
def test_edge_weights_scale_whole_edges(make: Make) -> None:
    net, batch = make()
    mixing = net.mixing()
    factors = {name: torch.rand(len(p)) for name, p in mixing.weights.items()}
    scaled = {name: p * factors[name][:, None] for name, p in mixing.weights.items()}
    with_edges = net.loss(batch, mixing=Mixing(mixing.weights, edges=factors))
    torch.testing.assert_close(with_edges, net.loss(batch, mixing=Mixing(scaled)))


def test_each_cell_may_have_weights_of_its_own() -> None:
    net, batch = conv()
    mixing = net.mixing()
    counts = {"normal": 1, "reduce": 2}  # cells 1 and 2 of three reduce
    repeated = {
        name: p.detach().expand(counts[name], -1, -1).clone().requires_grad_()
        for name, p in mixing.weights.items()
    }
    loss = net.loss(batch, mixing=Mixing(repeated))
    torch.testing.assert_close(loss, net.loss(batch))
    shared = {name: p.detach().requires_grad_() for name, p in mixing.weights.items()}
    sums = torch.autograd.grad(loss, list(repeated.values()))
    expected = torch.autograd.grad(net.loss(batch, mixing=Mixing(shared)), list(shared.values()))
    for ours, theirs in zip(sums, expected, strict=True):
        torch.testing.assert_close(ours.sum(0), theirs)


def test_one_hots_of_both_kinds() -> None:
    net, batch = conv()
    edges = [("sep_conv_3x3", 0), ("none", 1), ("max_pool_3x3", 2), ("skip_connect", 0)]
    genotype = ConvGenotype(edges, [2, 3], edges, [2, 3])
    mixing = one_hot(genotype, net.space)
    assert mixing.weights["normal"].shape == (5, 8)
    assert mixing.weights["normal"].nonzero().tolist() == [[0, 4], [1, 0], [2, 3], [4, 1]]
    assert mixing.active["normal"] == ((4,), (0,), (3,), (), (1,))
    assert net.loss(batch, mixing=mixing).isfinite()
    language, tokens = recurrent()
    cell = RecurrentGenotype((("tanh", 0), ("relu", 1), ("identity", 0)), (1, 2, 3))
    mixing = one_hot(cell, language.space)
    assert mixing.weights["recurrent"].nonzero().tolist() == [[0, 1], [2, 2], [3, 4]]
    assert language.loss(tokens, mixing=mixing).isfinite()


def test_betas_are_the_edges_factors_and_rank_them() -> None:
    net, batch = conv()
    edges = net.space.cell("normal").num_edges
    net.add_alphas({f"beta_{name}": torch.randn(edges).double() for name in ("normal", "reduce")})
    betas = net.alphas["beta_normal"]
    factors = net.mixing().edges["normal"]
    expected = torch.cat([betas[:2].softmax(0), betas[2:].softmax(0)])  # nodes of 2 and 3 edges
    torch.testing.assert_close(factors, expected)
    given = Mixing(net.mixing().weights)
    assert net.loss(batch) != net.loss(batch, mixing=given)
    with torch.no_grad():
        net.alphas["normal"].zero_()
        net.alphas["normal"][:, 4] = 1
        betas.copy_(torch.tensor([0.0, 1, 1, 3, 2]))
    normal = net.genotype().cells["normal"]
    assert [[edge.predecessor for edge in node] for node in normal] == [[1, 0], [1, 2]]


def test_per_edge_one_hots_and_wrong_edges() -> None:
    net, _ = per_edge()
    genotype = net.genotype()
    mixing = one_hot(genotype, net.space)
    for name, p in mixing.weights.items():
        assert p.sum() == 8
        for row, column in p.nonzero().tolist():
            edge = net.space.cell(name).edges[row]
            kept = genotype.cells[name][edge.node]
            assert (edge.primitives[column], edge.source) in kept


def test_what_does_not_fit_is_refused() -> None:
    net, batch = conv()
    with pytest.raises(ConfigError, match=r"cells \['normal'\]; the supernet has"):
        net.loss(batch, mixing=Mixing({"normal": torch.zeros(5, 8)}))
    wrong = {"normal": torch.zeros(5, 7), "reduce": torch.zeros(5, 8)}
    with pytest.raises(ConfigError, match=r"'normal' have shape \(5, 7\).*\(5, 8\)"):
        net.loss(batch, mixing=Mixing(wrong))
    genotype = ConvGenotype([("swish", 0), ("none", 1)], [2], [("none", 0), ("none", 1)], [2])
    with pytest.raises(ConfigError, match="normal node 0 has 'swish' from state 0"):
        one_hot(genotype, net.space)


@EACH
def test_alphas_of_a_method_join_those_of_the_cells(make: Make) -> None:
    net, batch = make()
    cells = list(net.alphas)
    net.add_alphas({"beta": torch.zeros(5)})
    assert list(net.alphas) == [*cells, "beta"]
    assert "alpha_beta" in net.state_dict()
    assert all(weight is not net.alphas["beta"] for weight in net.weights)
    assert net.loss(batch).isfinite()
    assert net.genotype()
    with pytest.raises(ConfigError, match="named 'beta' already"):
        net.add_alphas({"beta": torch.zeros(5)})


@EACH
def test_masks_are_saved_and_old_checkpoints_have_none(make: Make) -> None:
    net, _ = make()
    name = next(iter(net.mask))
    net.mask[name][0, 1] = False
    state = net.state_dict()
    other, _ = make()
    other.load_state_dict(state)
    assert not other.mask[name][0, 1]
    old = {key: value for key, value in state.items() if not key.startswith("mask_")}
    other.load_state_dict(old)
    assert other.mask[name].all()
