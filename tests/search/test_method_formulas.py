"""Each method against its formula: gradients in float64, statistics of what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from darts_ray.config import SearchOptimConfig, SpaceConfig
from darts_ray.nn import ConvSupernet, Mixing
from darts_ray.search import BilevelStep, methods
from darts_ray.search.parts import Progress
from darts_ray.space import SearchSpace
from tests.reference import relaxations
from tests.reference.unrolled import unrolled_alpha_gradient
from tests.search.small import image_config
from tests.search.toys import token_batch

SPACE: SearchSpace = image_config().search_space()
T = Progress(epoch=3, epochs=10)
SMOOTH = {"kind": "recurrent", "primitives": ["none", "tanh", "sigmoid", "identity"]}
Formula = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def make(
    method: Any, order: str = "first", seed: int = 0
) -> tuple[ConvSupernet, BilevelStep, list[Any]]:
    torch.manual_seed(seed)
    sizes = {"channels": 4, "num_classes": 3, "layers": 3, "stem_multiplier": 1, "in_channels": 1}
    supernet: Any = methods.supernet(method, space=SPACE, **sizes).double()
    for alpha in supernet.alphas.values():
        alpha.data += 0.5 * torch.randn_like(alpha)
    batches = [
        (torch.randn(6, 1, 8, 8, dtype=torch.float64), torch.randint(3, (6,))) for _ in range(2)
    ]
    optim = SearchOptimConfig(order=order, hvp="exact", xi=0.3, weight_decay=0.01)
    step = BilevelStep(supernet, optim, method)
    step.progress = T
    return supernet, step, batches


RELAXATIONS: dict[str, tuple[Any, Formula, Formula]] = {
    # by method: its values; formulas of the training and of the validation loss
    "darts": ("darts", relaxations.softmax, relaxations.softmax),
    # eps = .03 + .27 * 3 / 10
    "sdarts": ("sdarts", lambda a: relaxations.perturbed(a, 0.111), relaxations.softmax),
    # tau = 10 - 9.9 * 3 / 9
    "gdas": (
        {"name": "gdas", "unselected": "exact"},
        lambda a: relaxations.hard_gumbel(a, 6.7),
        lambda a: relaxations.hard_gumbel(a, 6.7),
    ),
}


@pytest.mark.parametrize("order", ["first", "unrolled"])
@pytest.mark.parametrize("name", RELAXATIONS)
def test_alpha_gradient_follows_the_formula(name: str, order: str) -> None:
    method, train, valid = RELAXATIONS[name]
    supernet, step, batches = make(method, order)
    torch.manual_seed(5)
    ours = step.alpha_gradient(*batches)
    torch.manual_seed(5)
    # the training loss draws first; first order has none
    train_mixing = Mixing(train(supernet.alphas)) if order == "unrolled" else None
    valid_mixing = Mixing(valid(supernet.alphas))
    expected = unrolled_alpha_gradient(
        supernet, *batches, xi=0.3 if order == "unrolled" else 0.0, weight_decay=0.01,
        train_mixing=train_mixing, valid_mixing=valid_mixing,
    )  # fmt: skip
    for key, gradient in expected.items():
        torch.testing.assert_close(ours[key], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_finite_difference_approaches_the_exact_gradient(name: str) -> None:
    # a smooth network: where a ReLU changes sides, differences see what derivatives do not
    space = {**SMOOTH, "name": "smooth", "nodes": 2, "edges_per_node": 1}
    results = []
    for hvp in ("finite_difference", "exact"):
        torch.manual_seed(0)
        supernet: Any = methods.supernet(
            RELAXATIONS[name][0], vocab_size=7, embedding_dim=4, hidden_dim=4, nodes=2,
            space=SpaceConfig.model_validate(space).build(),
        ).double()  # fmt: skip
        optim = SearchOptimConfig(
            order="unrolled", hvp=hvp, hvp_epsilon=1e-4, xi=0.3, clip_virtual_step=False
        )
        step = BilevelStep(supernet, optim, RELAXATIONS[name][0])
        step.progress = T
        torch.manual_seed(5)
        results.append(step.alpha_gradient(token_batch(0), token_batch(1))["recurrent"])
    difference, exact = results
    torch.testing.assert_close(difference, exact, rtol=1e-4, atol=1e-9)


def test_beta_darts_adds_its_closed_form() -> None:
    _, plain, batches = make("darts")
    supernet, step, _ = make("beta_darts")
    before, after = plain.alpha_gradient(*batches), step.alpha_gradient(*batches)
    # lambda = 50 * 3 / 10
    expected = relaxations.log_sum_exp_penalty(supernet.alphas, 15.0)
    for name, term in expected.items():
        torch.testing.assert_close(after[name] - before[name], term, rtol=1e-9, atol=1e-12)


def test_gdas_draws_as_often_as_the_softmax_says() -> None:
    supernet, step, _ = make("gdas")
    alphas = {name: alpha.detach() for name, alpha in supernet.alphas.items()}
    relaxation, num = step.method.relaxation, 4000
    counts = {name: torch.zeros_like(alpha) for name, alpha in alphas.items()}
    for _ in range(num):
        for name, p in relaxation.mix(alphas, SPACE, "weight", T).weights.items():
            counts[name] += p.detach().round()
    for name, p in relaxations.softmax(alphas).items():
        # five standard deviations of a frequency, whatever the temperature
        bound = 5 * (p * (1 - p) / num).sqrt()
        assert ((counts[name] / num - p).abs() < bound).all()


def test_gdas_and_sdarts_ramps() -> None:
    # at temperature 0.1 (last epoch) a sample's softmax is nearly one-hot, at 10 nearly uniform
    from darts_ray.search.methods.gumbel import temperature

    assert [temperature(10, 0.1, Progress(t, 3)) for t in range(3)] == pytest.approx(
        [10, 5.05, 0.1]
    )
    assert temperature(10, 0.1, Progress(0, 1)) == 10


@pytest.mark.parametrize("seed", range(3))
def test_the_adversary_raises_the_training_loss_within_its_radius(seed: int) -> None:
    supernet, step, (train, _) = make({"name": "sdarts", "perturbation": "adversarial"}, seed=seed)
    alphas = {name: alpha.detach() for name, alpha in supernet.alphas.items()}
    attacked: list[Any] = []

    def probe(mixing: Mixing) -> Tensor:
        attacked.append(mixing)
        return supernet.loss(train, mixing=mixing)

    q = step.method.relaxation.mix(alphas, SPACE, "weight", T, probe)
    p = relaxations.softmax(alphas)
    # 1 + 7 + 1 looks at the batch; the last is at the perturbed weights, before they are clipped
    assert len(attacked) == 9
    eps = 0.03 + 0.27 * 0.3
    for name in p:
        assert (attacked[-1].weights[name] - p[name]).abs().max() <= eps + 1e-12
        torch.testing.assert_close(q.weights[name].sum(-1), torch.ones(len(p[name])).double())
        assert (q.weights[name] >= 0).all()
    p = {name: row.detach() for name, row in p.items()}
    plain = supernet.loss(train, mixing=Mixing(p))
    assert supernet.loss(train, mixing=attacked[-1]) > plain
    # the mirrored perturbation, which an attack with the wrong sign would find, lowers the loss
    mirrored = {name: 2 * p[name] - attacked[-1].weights[name] for name in p}
    assert supernet.loss(train, mixing=Mixing(mirrored)) < plain


def test_the_adversary_sees_the_training_batch() -> None:
    supernet, step, batches = make({"name": "sdarts", "perturbation": "adversarial"})
    seen = []
    plain = supernet.stateful_loss

    def watched(batch: Any, *args: Any, **options: Any) -> Any:
        seen.append(batch is batches[0])
        return plain(batch, *args, **options)

    supernet.stateful_loss = watched  # type: ignore[method-assign]
    step.step(*batches)
    # the alphas' loss, nine looks at the training batch, the weights' loss
    assert seen == [False] + [True] * 9 + [True]


def test_a_projected_edge_has_weight_one_and_no_gradient() -> None:
    supernet, step, batches = make("darts_pt")
    supernet.mask["normal"][0] = False
    supernet.mask["normal"][0, 2] = True
    gradient = step.alpha_gradient(*batches)["normal"]
    assert (gradient[0] == 0).all()
    assert (gradient[1] != 0).any()
    whole = step._mix("weight")
    assert whole is not None
    assert whole.weights["normal"][0].tolist() == [0, 0, 1, 0]
