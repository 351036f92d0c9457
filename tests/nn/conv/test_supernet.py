"""The fused supernet against the plain per-edge one, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from darts_ray.errors import ConfigError
from darts_ray.nn import (
    ConvSupernet,
    num_weights,
    weights_frozen,
)
from darts_ray.nn.conv.connections import AuxiliarySkip, PartialChannels
from darts_ray.nn.conv.fused import convs, edges
from darts_ray.nn.conv.fused.folding import folds_of
from darts_ray.space import SearchSpace
from tests.nn.conv.spaces_for_tests import (
    CONVS,
    LAST,
    LAST_TWO,
    MEAN,
    POOLS,
    SPARSE,
    WIDE,
    own_space,
)
from tests.reference.gradients import copy_weights, named_gradients

pytestmark = pytest.mark.usefixtures("one_thread")


CASES = {
    "two nodes, digits": ({"nodes": 2, "layers": 3, "in_channels": 1}, (8, 8)),
    "three nodes, odd channels": ({"channels": 3, "nodes": 3, "layers": 2}, (8, 8)),
    "four nodes, flat image": ({"nodes": 4, "layers": 2}, (6, 10)),
    "five layers, odd sizes": ({"nodes": 2, "layers": 5, "channels": 2}, (9, 7)),
    "own space": ({"nodes": 3, "layers": 3, "space": WIDE, "num_classes": 3}, (8, 6)),
    "only pools": ({"nodes": 2, "layers": 3, "space": POOLS}, (8, 8)),
    "only convolutions": ({"nodes": 2, "layers": 3, "space": CONVS}, (8, 8)),
    "last two nodes": ({"nodes": 3, "layers": 3, "space": LAST_TWO}, (8, 8)),
    "one cell": ({"nodes": 1, "layers": 1, "stem_multiplier": 1}, (2, 3)),
    "mean of the nodes": ({"layers": 3, "space": MEAN}, (8, 8)),
    "last node": ({"layers": 3, "space": LAST}, (9, 8)),
    "sparse cells": ({"layers": 3, "space": SPARSE}, (7, 8)),
    "S1": ({"layers": 3, "space": "s1"}, (8, 8)),
    "S2": ({"layers": 3, "space": "s2"}, (8, 8)),
    "S3": ({"layers": 3, "space": "s3", "nodes": 2}, (8, 8)),
    "NAS-Bench-201": ({"layers": 6, "space": "nasbench201"}, (8, 8)),
    "NAS-Bench-201, odd sizes": ({"layers": 3, "space": "nasbench201", "channels": 3}, (7, 9)),
    "partial channels": ({"nodes": 3, "layers": 3, "connection": PartialChannels(2)}, (8, 8)),
    "auxiliary skip": ({"nodes": 2, "layers": 3, "connection": AuxiliarySkip(0.4)}, (7, 8)),
}


def space_name(value: object) -> str:
    return value.name if isinstance(value, SearchSpace) else str(value)


def make_pair(
    options: dict, size: tuple[int, int], batch: int = 3
) -> tuple[ConvSupernet, ConvSupernet, tuple[Tensor, Tensor]]:
    """Return a fused and a plain supernet of the same weights and alphas, and a batch."""
    torch.manual_seed(0)
    options = {"channels": 4, "num_classes": 5, **options}
    supernet = ConvSupernet(**options).double()
    plain = ConvSupernet(**options, fused=False).double()
    with torch.no_grad():
        for alpha in supernet.alphas.values():
            alpha.normal_()
    copy_weights(supernet, plain)
    in_channels = options.get("in_channels", 3)
    images = torch.randn(batch, in_channels, *size, dtype=torch.float64)
    return supernet, plain, (images, torch.tensor([0, 2, 1, 0])[:batch])


def assert_equal_gradients(supernet: ConvSupernet, reference: ConvSupernet) -> None:
    theirs = named_gradients(reference)
    for name, ours in named_gradients(supernet).items():
        if name.endswith("op.1.bias"):  # which a normalisation removes: zero but for rounding
            assert max(ours.abs().max(), theirs[name].abs().max()) < 1e-12
        else:
            assert relative_error(ours, theirs[name]) < 1e-10, name


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm().clamp_min(1e-8)).item()


@pytest.mark.parametrize(("options", "size"), CASES.values(), ids=CASES)
def test_output_and_all_gradients_are_those_of_the_reference(
    options: dict, size: tuple[int, int]
) -> None:
    supernet, reference, batch = make_pair(options, size)
    assert relative_error(supernet(batch[0]), reference(batch[0])) < 1e-10
    supernet.loss(batch).backward()
    reference.loss(batch).backward()
    assert_equal_gradients(supernet, reference)


@pytest.mark.parametrize(
    "case", ["two nodes, digits", "five layers, odd sizes", "own space", "S1", "partial channels"]
)
def test_images_side_by_side_change_nothing(case: str) -> None:
    """Four images of 4 channels fill a register; of three images none stands beside another."""
    options, size = CASES[case]
    supernet, reference, batch = make_pair(options, size, batch=4)
    assert folds_of(torch.zeros(4, 4, 1, 1)) == 4
    assert folds_of(torch.zeros(3, 4, 1, 1)) == 1
    supernet.loss(batch).backward()
    reference.loss(batch).backward()
    assert_equal_gradients(supernet, reference)
    assert_equal_hessian_products(supernet, reference, batch)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("group_bytes", [1, 2 * 3 * 4 * 8 * 8 * 8])
@pytest.mark.parametrize("space", ["darts", WIDE, POOLS, CONVS, SPARSE], ids=space_name)
def test_edges_may_be_computed_in_groups(
    space: SearchSpace, group_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One edge at a time, and two (of 3 images, 4 channels, 8x8 pixels, 8 bytes) at a time."""
    monkeypatch.setattr(edges, "_GROUP_BYTES", group_bytes)
    monkeypatch.setattr(convs, "_SMALL_BYTES", 0)  # as large activations are treated
    supernet, reference, batch = make_pair({"layers": 3, "space": space}, (8, 8))
    supernet.loss(batch).backward()
    reference.loss(batch).backward()
    assert_equal_gradients(supernet, reference)


@pytest.mark.parametrize(
    "case",
    [
        "two nodes, digits",
        "five layers, odd sizes",
        "own space",
        "only pools",
        "sparse cells",
        "NAS-Bench-201",
        "partial channels",
    ],
)
def test_second_derivatives_are_those_of_the_reference(case: str) -> None:
    assert_equal_hessian_products(*make_pair(*CASES[case]))


def assert_equal_hessian_products(
    supernet: ConvSupernet, reference: ConvSupernet, batch: tuple[Tensor, Tensor]
) -> None:
    products = []
    for net in (supernet, reference):
        gradients = torch.autograd.grad(
            net.loss(batch), net.weights, create_graph=True, materialize_grads=True
        )
        # the derivative of |grad_w L|^2 with respect to alpha: a Hessian-vector product
        square = sum((gradient * gradient).sum() for gradient in gradients)
        products.append(torch.autograd.grad(square, list(net.alphas.values())))
    for ours, theirs in zip(*products, strict=True):
        assert theirs.norm() > 0
        assert relative_error(ours, theirs) < 1e-9


def test_frozen_weights_leave_alpha_gradients_as_they_are() -> None:
    supernet, _, batch = make_pair(*CASES["two nodes, digits"])
    alphas = list(supernet.alphas.values())
    expected = torch.autograd.grad(supernet.loss(batch), alphas)
    with weights_frozen(supernet.weights):
        loss = supernet.loss(batch)
    for ours, theirs in zip(torch.autograd.grad(loss, alphas), expected, strict=True):
        assert torch.equal(ours, theirs)
    assert all(weight.requires_grad for weight in supernet.weights)


def test_bfloat16_costs_little_more_than_plain_autocast() -> None:
    """The fused edges round elsewhere than the plain ones, and not much more often."""
    errors: dict[str, list[list[float]]] = {"fused": [], "plain": []}
    for seed in range(4):
        torch.manual_seed(seed)
        fused = ConvSupernet(channels=8, layers=3, nodes=2)
        plain = ConvSupernet(channels=8, layers=3, nodes=2, fused=False)
        copy_weights(fused, plain)
        batch = (torch.randn(16, 3, 16, 16), torch.randint(10, (16,)))
        plain.loss(batch).backward()
        exact = gathered(plain)
        for name, supernet in (("fused", fused), ("plain", plain)):
            supernet.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = supernet.loss(batch)
            loss.backward()
            errors[name].append(
                [relative_error(*pair) for pair in zip(gathered(supernet), exact, strict=True)]
            )
    ours, theirs = (torch.tensor(errors[name]).mean(0) for name in ("fused", "plain"))
    assert (theirs > 1e-3).all()  # it is bfloat16
    assert (ours <= 1.5 * theirs).all(), (ours, theirs)


def gathered(supernet: ConvSupernet) -> tuple[Tensor, Tensor]:
    """Return the gradients of all weights, and those of all alphas, as one vector each."""
    gradients = named_gradients(supernet)
    alphas = [name for name in gradients if "alpha" in name]
    weights = [gradients[name].flatten() for name in gradients if name not in alphas]
    return torch.cat(weights), torch.cat([gradients[name].flatten() for name in alphas])


def test_number_of_weights_at_paper_size() -> None:
    assert num_weights(ConvSupernet()) == 1_930_618  # REFERENCE: the original code's


def test_layout_covers_every_weight_once() -> None:
    supernet = ConvSupernet(channels=4, layers=3, nodes=2)
    views = dict(supernet.plain_layout())
    with torch.no_grad():
        for view in views.values():
            view.fill_(7)
    assert all((weight == 7).all() for weight in supernet.weights)
    assert sum(view.numel() for view in views.values()) == num_weights(supernet)


def test_none_takes_part_in_the_softmax_but_adds_nothing() -> None:
    supernet, _, (images, _) = make_pair({"nodes": 2, "layers": 3, "space": CONVS}, (8, 8))
    with torch.no_grad():
        for alpha in supernet.alphas.values():
            alpha[:, 1] = 60.0  # softmax weight of dil_conv_5x5: e^-60
    logits = supernet(images)
    torch.testing.assert_close(logits, supernet.classifier.bias.expand_as(logits))


def test_evaluation_uses_batch_statistics_and_keeps_none() -> None:
    supernet, _, (images, _) = make_pair({"nodes": 3, "layers": 3, "space": WIDE}, (8, 8))
    before = supernet(images)
    supernet(5 * images + 3)
    supernet.eval()
    assert torch.equal(supernet(images), before)
    assert all(name.startswith("mask_") for name, _ in supernet.named_buffers())


def test_initial_weights_have_the_distribution_of_conv2d() -> None:
    torch.manual_seed(0)
    convs = ConvSupernet(layers=1).cells[0].states[0].convs["sep_conv_5x5"]
    for weight, fan_in in ((convs.depthwise[0], 25), (convs.pointwise[0], 32)):
        bound = fan_in**-0.5  # of nn.Conv2d's uniform distribution
        assert 0.95 * bound < weight.abs().max() <= bound


def test_alphas_are_saved_but_are_no_weights() -> None:
    supernet = ConvSupernet(channels=2, layers=2, nodes=2)
    assert {"alpha_normal", "alpha_reduce"} <= set(supernet.state_dict())
    assert supernet.alphas["reduce"].shape == (5, 8)
    weights = {id(weight) for weight in supernet.weights}
    assert not weights & {id(alpha) for alpha in supernet.alphas.values()}
    assert len(weights) + 2 == len(list(supernet.parameters()))
    assert (supernet.alphas["normal"].detach().std()) < 2e-3


def test_protocol_of_a_stateless_network() -> None:
    supernet, _, batch = make_pair(*CASES["two nodes, digits"])
    assert supernet.initial_state(3) is None
    loss, state = supernet.stateful_loss(batch, None, regularised=True)
    assert state is None
    assert loss == supernet.loss(batch)
    assert set(supernet.genotype().cells) == {"normal", "reduce"}
    assert supernet.clips_virtual_step is False


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="not for conv"):
        ConvSupernet(space="recurrent")
    unknown = own_space("unknown", ("sep_conv_9x9",), 1)
    with pytest.raises(ConfigError, match=r"'sep_conv_9x9'.*register_operation"):
        ConvSupernet(space=unknown)
    supernet = ConvSupernet(channels=2, layers=3, nodes=1)
    supernet.check_image_size(4, 4)
    with pytest.raises(ConfigError, match=r"3x8.*at least 4x4"):
        supernet(torch.zeros(2, 3, 3, 8))
