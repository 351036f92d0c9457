"""Alpha gradients against exact differentiation through the virtual step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from darts_ray.config import SearchOptimConfig
from darts_ray.nn.supernet import Batch, Supernet
from darts_ray.search import BilevelStep
from tests.reference.unrolled import unrolled_alpha_gradient
from tests.search.identical import (
    assert_identical,
    hidden_states,
    snapshot,
    take_hidden_states,
)
from tests.search.toys import FeedForwardToy, RecurrentToy, image_like_batch, token_batch

TOYS: dict[str, tuple[Callable[[], Any], Callable[[int], Batch]]] = {
    "conv": (FeedForwardToy, image_like_batch),
    "recurrent": (lambda: RecurrentToy(dropout=0.4), token_batch),
}
# A clip norm of 0.05 is below every gradient here, 1e3 above: both branches of min(1, c).
CASES = [
    pytest.param(kind, momentum, decay, clip, id=f"{kind}-m{momentum}-wd{decay}-clip{clip}")
    for kind in TOYS
    for momentum, decay, clip in [
        (0.0, 0.0, None),
        (0.9, 0.0, None),
        (0.9, 0.02, None),
        (0.0, 0.02, 0.05),
        (0.9, 0.02, 0.05),
        (0.0, 0.02, 1e3),
    ]
]


def make(
    kind: str, *, warm: int = 2, **values: Any
) -> tuple[Any, BilevelStep, tuple[Batch, Batch]]:
    """A float64 toy and its step, after `warm` steps (momentum buffers, hidden states)."""
    torch.manual_seed(0)
    toy, batch = TOYS[kind]
    supernet = toy().double()
    optim = SearchOptimConfig(
        **{"weight_lr": 0.1, "weight_lr_min": 0.1, "order": "unrolled", **values}
    )
    step = BilevelStep(supernet, optim)
    for seed in range(warm):
        step.step(batch(10 * seed), batch(10 * seed + 1))
    return supernet, step, (batch(100), batch(101))


def reference(
    supernet: Supernet, step: BilevelStep, batches: tuple[Batch, Batch], **values: Any
) -> dict[str, Tensor]:
    """The exact unrolled gradient from the step's present optimiser and hidden states."""
    buffers = list(map(step.optimizers.momentum_buffer, supernet.weights))
    with torch.random.fork_rng(devices=[]):
        return unrolled_alpha_gradient(
            supernet,
            *batches,
            xi=0.1,
            buffers=buffers,
            train_state=hidden_states(step).get("train"),
            valid_state=hidden_states(step).get("valid"),
            **values,
        )


def relative_error(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert list(ours) == list(theirs)
    difference = torch.cat([(ours[name] - theirs[name]).flatten() for name in ours])
    size = torch.cat([theirs[name].flatten() for name in ours])
    return float(difference.norm() / size.norm())


@pytest.mark.parametrize(("kind", "momentum", "decay", "clip"), CASES)
def test_exact_mode_equals_differentiation_through_the_virtual_step(
    kind: str, momentum: float, decay: float, clip: float | None
) -> None:
    supernet, step, batches = make(
        kind,
        hvp="exact",
        momentum=momentum,
        weight_decay=decay,
        clip_virtual_step=clip is not None,
        grad_clip=clip or 5.0,
    )
    ours = step.alpha_gradient(*batches)
    theirs = reference(
        supernet, step, batches, momentum=momentum, weight_decay=decay, max_norm=clip
    )
    assert relative_error(ours, theirs) < 1e-9
    # the second-order term must matter, or the comparison would show nothing
    first = BilevelStep(supernet, SearchOptimConfig())
    take_hidden_states(first, step)
    with torch.random.fork_rng(devices=[]):
        assert relative_error(first.alpha_gradient(*batches), theirs) > 1e-3


@pytest.mark.parametrize(("kind", "momentum", "decay", "clip"), CASES)
def test_finite_difference_error_falls_with_the_square_of_the_step(
    kind: str, momentum: float, decay: float, clip: float | None
) -> None:
    values: dict[str, Any] = {
        "momentum": momentum,
        "weight_decay": decay,
        "clip_virtual_step": clip is not None,
        "grad_clip": clip or 5.0,
    }
    errors = []
    for epsilon in (0.04, 0.02, 0.01):
        supernet, step, batches = make(kind, hvp="exact", **values)
        exact = step.alpha_gradient(*batches)
        if clip == 0.05:
            # v is clipped in this mode: the product shrinks by the same factor
            exact = _with_clipped_product(supernet, step, batches, exact, clip)
        moving = BilevelStep(
            supernet, _optim(hvp="finite_difference", hvp_epsilon=epsilon, **values)
        )
        take_hidden_states(moving, step)
        moving.optimizers.weights = step.optimizers.weights
        errors.append(relative_error(moving.alpha_gradient(*batches), exact))
    assert errors[-1] < 1e-4
    # the leading error of a central difference is proportional to e^2: 4 per halving
    assert 3.5 < errors[0] / errors[1] < 4.5
    assert 3.5 < errors[1] / errors[2] < 4.5


def _optim(**values: Any) -> SearchOptimConfig:
    return SearchOptimConfig(
        **{"weight_lr": 0.1, "weight_lr_min": 0.1, "order": "unrolled", **values}
    )


def _with_clipped_product(
    supernet: Any,
    step: BilevelStep,
    batches: tuple[Batch, Batch],
    exact: dict[str, Tensor],
    clip: float,
) -> dict[str, Tensor]:
    """Scale the implicit term by `clip / ||v||`: it is linear in v."""
    direct, v_norm = _direct_term(supernet, step, batches)
    factor = clip / (v_norm + 1e-6)
    assert factor < 1
    return {name: direct[name] + factor * (exact[name] - direct[name]) for name in exact}


def _direct_term(
    supernet: Any, step: BilevelStep, batches: tuple[Batch, Batch]
) -> tuple[dict[str, Tensor], float]:
    """Return `grad_alpha L_val(w', alpha)` and `||v||`, looked at from inside a valid pass."""
    seen: dict[str, Any] = {}
    plain = supernet.stateful_loss

    def watched(batch: Batch, state: Any, **options: Any) -> Any:
        loss, state = plain(batch, state, **options)
        if batch is batches[1]:
            inputs = [*supernet.alphas.values(), *supernet.weights]
            seen["all"] = torch.autograd.grad(
                loss, inputs, retain_graph=True, materialize_grads=True
            )
        return loss, state

    supernet.stateful_loss = watched
    step.alpha_gradient(*batches)
    supernet.stateful_loss = plain
    count = len(supernet.alphas)
    direct = dict(zip(supernet.alphas, seen["all"][:count], strict=True))
    return direct, float(torch.nn.utils.get_total_norm(seen["all"][count:]))


@pytest.mark.parametrize("hvp", ["finite_difference", "exact"])
@pytest.mark.parametrize("kind", TOYS)
def test_a_missing_momentum_buffer_means_zero_momentum(kind: str, hvp: str) -> None:
    supernet, step, batches = make(kind, warm=0, hvp=hvp, momentum=0.9, clip_virtual_step=False)
    ours = step.alpha_gradient(*batches)
    with torch.random.fork_rng(devices=[]):
        theirs = unrolled_alpha_gradient(
            supernet,
            *batches,
            xi=0.1,
            momentum=0.0,
            weight_decay=3e-4,
            train_state=supernet.initial_state(3),
            valid_state=supernet.initial_state(3),
        )
    assert relative_error(ours, theirs) < (1e-9 if hvp == "exact" else 1e-4)


def test_only_some_buffers_missing() -> None:
    supernet, step, batches = make("conv", hvp="exact", momentum=0.9, weight_decay=0.0)
    del step.optimizers.weights.state[supernet.weights[0]]["momentum_buffer"]
    ours = step.alpha_gradient(*batches)
    assert relative_error(ours, reference(supernet, step, batches, momentum=0.9)) < 1e-9


@pytest.mark.parametrize("warm", [0, 2])
@pytest.mark.parametrize(
    ("order", "hvp"),
    [("first", "exact"), ("unrolled", "finite_difference"), ("unrolled", "exact")],
)
@pytest.mark.parametrize("kind", TOYS)
def test_alpha_gradient_leaves_no_trace(kind: str, order: str, hvp: str, warm: int) -> None:
    supernet, step, batches = make(
        kind, warm=warm, order=order, hvp=hvp, momentum=0.9, weight_decay=0.02
    )
    marker = torch.ones_like(supernet.weights[0])
    supernet.weights[0].grad = marker
    before = snapshot(supernet, step)
    first = step.alpha_gradient(*batches)
    assert_identical(before, snapshot(supernet, step))
    assert supernet.weights[0].grad is marker
    assert_identical(first, step.alpha_gradient(*batches))


def test_weights_come_back_after_an_error() -> None:
    supernet, step, (train, _) = make("conv", hvp="finite_difference")
    before = [weight.clone() for weight in supernet.weights]
    with pytest.raises(RuntimeError):
        step.alpha_gradient(train, (torch.zeros(2, 99, dtype=torch.float64), torch.zeros(2)))
    assert_identical(before, [weight.detach() for weight in supernet.weights])


def test_training_passes_share_their_dropout_masks() -> None:
    supernet, step, batches = make("recurrent", hvp="finite_difference")
    seen: list[tuple[bool, Tensor]] = []
    plain = supernet.stateful_loss

    def watched(batch: Batch, state: Any, **options: Any) -> Any:
        seen.append((batch is batches[0], torch.get_rng_state()))
        return plain(batch, state, **options)

    supernet.stateful_loss = watched
    step.alpha_gradient(*batches)
    train = [state for is_train, state in seen if is_train]
    valid = [state for is_train, state in seen if not is_train]
    assert len(train) == 3
    assert len(valid) == 1
    assert torch.equal(train[0], train[1])
    assert torch.equal(train[0], train[2])
    assert not torch.equal(train[0], valid[0])


def test_a_step_draws_new_masks_for_its_weight_update() -> None:
    supernet, step, batches = make("recurrent", hvp="finite_difference")
    states = []
    plain = supernet.stateful_loss

    def watched(batch: Batch, state: Any, **options: Any) -> Any:
        states.append(torch.get_rng_state())
        return plain(batch, state, **options)

    supernet.stateful_loss = watched
    step.step(*batches)
    virtual, *_, weight_update = states
    assert not torch.equal(virtual, weight_update)


@pytest.mark.parametrize("kind", TOYS)
def test_xi_zero_is_first_order(kind: str) -> None:
    _, unrolled, batches = make(kind, xi=0.0, warm=0)
    _, first, _ = make(kind, order="first", warm=0)
    assert_identical(first.alpha_gradient(*batches), unrolled.alpha_gradient(*batches))


def test_xi_follows_the_current_learning_rate() -> None:
    _, step, batches = make("conv", xi="weight_lr", hvp="exact")
    step.weight_lr = 0.03
    followed = step.alpha_gradient(*batches)
    step.xi = 0.03
    step.weight_lr = 0.5
    assert_identical(followed, step.alpha_gradient(*batches))


class IndifferentToy(FeedForwardToy):
    """Judges black pictures by their alphas alone, whatever the weights are."""

    def stateful_loss(self, batch: Batch, state: Any, *, regularised: bool = False) -> Any:
        loss, state = super().stateful_loss(batch, state)
        return loss * (batch[0] != 0).any() + self.alpha_normal.sum(), state


@pytest.mark.parametrize("hvp", ["finite_difference", "exact"])
def test_zero_v_gives_no_implicit_term(hvp: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """v is the validation gradient at w'; a division by its norm would give NaN everywhere."""
    monkeypatch.setitem(TOYS, "indifferent", (IndifferentToy, image_like_batch))
    _, step, (train, (inputs, targets)) = make("indifferent", warm=0, hvp=hvp, xi=0.5)
    gradient = step.alpha_gradient(train, (torch.zeros_like(inputs), targets))
    assert torch.equal(gradient["normal"], torch.ones(1, 3, dtype=torch.float64))
    assert torch.equal(gradient["reduce"], torch.zeros(1, 3, dtype=torch.float64))
