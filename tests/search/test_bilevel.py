"""Whole bilevel steps: the paper's example, and the original algorithm over several steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from darts_ray.config import SearchOptimConfig
from darts_ray.nn.supernet import Batch
from darts_ray.search import BilevelStep
from tests.reference.original import OriginalSearch
from tests.search.identical import assert_identical, hidden_states
from tests.search.toys import (
    PAPER_TRAIN,
    PAPER_VALID,
    FeedForwardToy,
    MinimalToy,
    PaperToy,
    RecurrentToy,
    image_like_batch,
    token_batch,
)


@pytest.mark.parametrize(
    ("order", "hvp", "alpha"),
    [
        # L_val(w'(alpha)) with w' = w - xi (2 w - 2 alpha) has at w = alpha the derivative
        # alpha (1 + 2 xi) - 2, so with xi = 1/2 it ends at the optimum alpha = w = 1;
        # first order (xi = 0) ends at alpha = w = 2, where L_val = 1 instead of 0.
        ("first", "exact", 2.0),
        ("unrolled", "finite_difference", 1.0),
        ("unrolled", "exact", 1.0),
    ],
)
def test_the_papers_example(order: str, hvp: str, alpha: float) -> None:
    supernet = PaperToy(alpha=2.0, w=-2.0).double()
    optim = SearchOptimConfig(
        weight_lr=0.3,
        momentum=0.0,
        weight_decay=0.0,
        grad_clip=1e9,
        alpha_lr=0.02,
        alpha_weight_decay=0.0,
        order=order,
        hvp=hvp,
        xi=0.5,
    )
    step = BilevelStep(supernet, optim)
    for _ in range(300):
        result = step.step(PAPER_TRAIN, PAPER_VALID)
    assert supernet.alpha.item() == pytest.approx(alpha, abs=1e-3)
    assert supernet.w.item() == pytest.approx(alpha, abs=1e-3)
    # unrolled reports L_val(w'), and w' = alpha = w here
    assert result.valid_loss.item() == pytest.approx(alpha**2 - 2 * alpha + 1, abs=1e-3)


SIMULATED: dict[str, tuple[Callable[[], Any], Callable[[int], Batch], dict[str, Any]]] = {
    "conv": (
        FeedForwardToy,
        image_like_batch,
        {"weight_lr": 0.1, "momentum": 0.9, "weight_decay": 0.02, "grad_clip": 0.6},
    ),
    "recurrent": (
        RecurrentToy,
        token_batch,
        {
            "weight_lr": 2.0,
            "momentum": 0.0,
            "weight_decay": 0.01,
            "grad_clip": 0.15,
            "alpha_betas": (0.9, 0.999),
        },
    ),
}


@pytest.mark.parametrize("order", ["first", "unrolled"])
@pytest.mark.parametrize("kind", SIMULATED)
def test_five_steps_equal_the_original_algorithm(kind: str, order: str) -> None:
    toy, batch, values = SIMULATED[kind]
    torch.manual_seed(3)
    ours, theirs = toy().double(), toy().double()
    theirs.load_state_dict(ours.state_dict())
    optim = SearchOptimConfig(**values, alpha_lr=0.02, order=order)
    step = BilevelStep(ours, optim)
    original = OriginalSearch(
        theirs,
        optim,
        recurrent=kind == "recurrent",
        lr=optim.weight_lr,
        train_state=theirs.initial_state(3),
        valid_state=theirs.initial_state(3),
    )
    norms = []
    for index in range(5):
        # the cosine schedule changes the rate, and xi with it
        step.weight_lr = original.lr = optim.weight_lr * (1 - 0.1 * index)
        batches = batch(2 * index), batch(2 * index + 1)
        gradient = step.alpha_gradient(*batches)
        result, expected = step.step(*batches), original.step(*batches)
        close = {"rtol": 1e-9, "atol": 1e-12}
        for name, value in gradient.items():
            torch.testing.assert_close(value, expected["alpha_gradient"][name], **close)
        for name in ("train_loss", "valid_loss", "grad_norm"):
            assert getattr(result, name).item() == pytest.approx(expected[name], rel=1e-9)
        for ours_p, theirs_p in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(ours_p, theirs_p, **close)
        norms.append(expected["grad_norm"])
    # both branches of the clipping were taken, or the comparison would prove less
    assert min(norms) < optim.grad_clip < max(norms)


def test_step_results_stay_tensors() -> None:
    step = BilevelStep(FeedForwardToy().double(), SearchOptimConfig())
    result = step.step(image_like_batch(0), image_like_batch(1))
    for value in (result.train_loss, result.valid_loss, result.grad_norm):
        assert value.shape == ()
        assert not value.requires_grad


def test_gradient_norm_is_the_norm_before_clipping() -> None:
    norms = []
    for grad_clip in (1e-3, 1e3):
        torch.manual_seed(0)
        step = BilevelStep(FeedForwardToy().double(), SearchOptimConfig(grad_clip=grad_clip))
        norms.append(step.step(image_like_batch(0), image_like_batch(1)).grad_norm.item())
    assert norms[0] == norms[1] > 1e-3


def test_alphas_move_first_and_weights_see_the_new_ones() -> None:
    torch.manual_seed(0)
    supernet = FeedForwardToy().double()
    step = BilevelStep(supernet, SearchOptimConfig(alpha_lr=0.5))
    before = supernet.loss(image_like_batch(0)).item()
    result = step.step(image_like_batch(0), image_like_batch(1))
    assert abs(result.train_loss.item() - before) > 1e-4


def test_recurrent_hidden_states_are_carried_and_reset() -> None:
    torch.manual_seed(0)
    supernet = RecurrentToy().double()
    step = BilevelStep(supernet, SearchOptimConfig())
    step.step(token_batch(0), token_batch(1))
    hidden = hidden_states(step)
    train, valid = hidden["train"], hidden["valid"]
    assert train is not None
    assert valid is not None
    assert not torch.equal(train, valid)
    carried = step.alpha_gradient(token_batch(2), token_batch(3))
    step.reset_state()
    fresh = step.alpha_gradient(token_batch(2), token_batch(3))
    assert not torch.equal(carried["recurrent"], fresh["recurrent"])


@pytest.mark.parametrize("kind", SIMULATED)
def test_a_loaded_state_continues_bit_for_bit(kind: str) -> None:
    toy, batch, values = SIMULATED[kind]
    torch.manual_seed(0)
    optim = SearchOptimConfig(**values, order="unrolled")
    ours, other = toy().double(), toy().double()
    step, resumed = BilevelStep(ours, optim), BilevelStep(other, optim)
    for index in range(3):
        step.step(batch(2 * index), batch(2 * index + 1))
    other.load_state_dict(ours.state_dict())
    resumed.load_state_dict(step.state_dict())
    for index in range(3, 5):
        step.step(batch(2 * index), batch(2 * index + 1))
        resumed.step(batch(2 * index), batch(2 * index + 1))
    assert_identical(dict(ours.state_dict()), dict(other.state_dict()))


def test_loading_keeps_the_hyperparameters_of_the_configuration() -> None:
    donor = BilevelStep(FeedForwardToy().double(), SearchOptimConfig(weight_lr=0.3))
    donor.step(image_like_batch(0), image_like_batch(1))
    heir = BilevelStep(FeedForwardToy().double(), SearchOptimConfig(weight_lr=0.2, alpha_lr=0.1))
    heir.load_state_dict(donor.state_dict())
    assert (heir.weight_lr, heir.alpha_lr) == (0.2, 0.1)
    assert heir.optimizers.momentum_buffer(heir.supernet.weights[0]) is not None


def test_bfloat16_stays_close_to_float32() -> None:
    gradients = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        supernet = FeedForwardToy()
        step = BilevelStep(supernet, SearchOptimConfig(order="unrolled"), precision=precision)
        train, valid = (
            (inputs.float(), targets)
            for inputs, targets in (image_like_batch(0), image_like_batch(1))
        )
        gradients.append(step.alpha_gradient(train, valid)["normal"])
    assert gradients[1].dtype == torch.float32  # alphas keep their precision
    assert not torch.equal(gradients[0], gradients[1])
    # bfloat16 has 8 significant bits; a few roundings deep, 10 % of the gradient's size
    assert (gradients[0] - gradients[1]).norm() < 0.1 * gradients[0].norm()


def test_a_stateless_network_needs_four_members_only() -> None:
    torch.manual_seed(0)
    toy = FeedForwardToy().double()
    optim = SearchOptimConfig(order="unrolled")
    train, valid = image_like_batch(1), image_like_batch(2)
    whole = BilevelStep(toy, optim).alpha_gradient(train, valid)
    minimal = BilevelStep(MinimalToy(toy), optim)  # type: ignore[arg-type]
    assert_identical(minimal.alpha_gradient(train, valid), whole)
    assert torch.isfinite(minimal.step(train, valid).train_loss)


def test_finite_differences_are_taken_in_full_precision() -> None:
    """Both sides differ by less than bfloat16 can show."""
    torch.manual_seed(0)
    toy = FeedForwardToy()
    train, valid = ((x.float(), y) for x, y in (image_like_batch(1), image_like_batch(2)))
    gradients = []
    for precision in ("float32", "bfloat16"):
        optim = SearchOptimConfig(order="unrolled", xi=0.5, momentum=0.0)
        step = BilevelStep(toy, optim, precision=precision)  # type: ignore[arg-type]
        found = step.alpha_gradient(train, valid).values()
        gradients.append(torch.cat([g.flatten() for g in found]))
    # measured: 0.01; with bfloat16 differences 0.2
    assert (gradients[0] - gradients[1]).norm() < 0.1 * gradients[0].norm()
