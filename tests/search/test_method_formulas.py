"""Each method against its formula: gradients in float64, statistics of what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from darts_ray.config import SearchOptimConfig, SpaceConfig
from darts_ray.errors import ConfigError
from darts_ray.nn import ConvSupernet, Mixing
from darts_ray.search import BilevelStep, methods
from darts_ray.search.methods.lambda_darts import direction
from darts_ray.search.parts import Progress
from darts_ray.space import SearchSpace
from tests.reference import relaxations
from tests.reference.unrolled import unrolled_alpha_gradient
from tests.search.small import image_config
from tests.search.toys import FeedForwardToy, MinimalToy, token_batch

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
    # tau = 1 - .97 * 3 / 9
    "snas": (
        "snas",
        lambda a: relaxations.soft_gumbel(a, 1 - 0.97 / 3),
        lambda a: relaxations.soft_gumbel(a, 1 - 0.97 / 3),
    ),
    "drnas": ("drnas", relaxations.dirichlet, relaxations.dirichlet),
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


@pytest.mark.parametrize("name", ["darts", "sdarts", "gdas", "drnas"])
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
        torch.manual_seed(6)
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


def test_gdas_without_unselected_operations_learns_from_the_drawn_ones_alone() -> None:
    supernet, step, batches = make("gdas")
    torch.manual_seed(5)
    ours = step.alpha_gradient(*batches)
    torch.manual_seed(5)
    p = relaxations.hard_gumbel(supernet.alphas, 6.7)
    leaves = {name: row.detach().requires_grad_() for name, row in p.items()}
    loss = supernet.loss(batches[1], mixing=Mixing(leaves))
    for name, row in p.items():
        g = torch.autograd.grad(loss, leaves[name], retain_graph=True)[0]
        g = g * (row.detach() > 0.5)
        expected = torch.autograd.grad(row, supernet.alphas[name], g, retain_graph=True)[0]
        torch.testing.assert_close(ours[name], expected, rtol=1e-9, atol=1e-12)


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
    from darts_ray.search.methods.sampling.gumbel import temperature

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


def test_fair_darts_is_a_sigmoid_with_a_zero_one_loss() -> None:
    supernet, step, batches = make("fair_darts")
    ours = step.alpha_gradient(*batches)
    mixing = Mixing({name: 1 / (1 + (-alpha).exp()) for name, alpha in supernet.alphas.items()})
    loss = supernet.loss(batches[1], mixing=mixing)
    plain = torch.autograd.grad(loss, list(supernet.alphas.values()))
    terms = relaxations.zero_one_penalty(supernet.alphas, 10.0)
    for (name, gradient), first in zip(ours.items(), plain, strict=True):
        torch.testing.assert_close(gradient, first + terms[name], rtol=1e-9, atol=1e-12)


def test_drnas_divergence_has_its_closed_form() -> None:
    supernet, _, _ = make({"name": "drnas", "regulariser": "kl"})
    method = methods.make({"name": "drnas", "regulariser": "kl", "kl_weight": 0.5})
    assert method.penalty is not None
    assert method.alpha_weight_decay == 0.0
    ours = method.penalty(supernet.alphas, SPACE, T)
    expected = 0.5 * relaxations.dirichlet_divergence(supernet.alphas)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_drnas_samples_have_the_mean_that_is_derived_from() -> None:
    supernet, step, _ = make("drnas")
    alphas = {name: alpha.detach() for name, alpha in supernet.alphas.items()}
    relaxation, num = step.method.relaxation, 3000
    for name, mean in relaxation.strength(alphas, SPACE).items():
        draws = torch.stack(
            [relaxation.mix(alphas, SPACE, "alpha", T).weights[name] for _ in range(num)]
        )
        # a variance of a share is at most 1/4: five standard deviations of the mean
        assert ((draws.mean(0) - mean).abs() < 5 * 0.5 / num**0.5).all()


def test_pc_darts_gradients_of_alphas_and_betas() -> None:
    method = {"name": "pc_darts", "channels": 2}
    supernet, step, batches = make(method)
    ours = step.alpha_gradient(*batches)
    assert set(ours) == {"normal", "reduce", "beta_normal", "beta_reduce"}
    alphas = supernet.alphas
    p = relaxations.softmax({name: alphas[name] for name in ("normal", "reduce")})
    # one node with two edges: the softmax over the node is one over both
    edges = {name: alphas[f"beta_{name}"].softmax(0) for name in p}
    loss = supernet.loss(batches[1], mixing=Mixing(p, edges=edges))
    expected = torch.autograd.grad(loss, list(alphas.values()))
    for gradient, reference in zip(ours.values(), expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-9, atol=1e-12)
    strength = step.method.relaxation.strength(alphas, SPACE)["normal"]
    torch.testing.assert_close(strength, p["normal"] * edges["normal"].unsqueeze(-1))


def test_lambda_darts_direction_is_the_gradient_of_the_mean_cosine() -> None:
    torch.manual_seed(0)
    g = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    rows = [row.flatten() for row in g]
    cosines = [
        torch.cosine_similarity(rows[i], rows[k], dim=0) for i in range(4) for k in range(i)
    ]
    expected = torch.autograd.grad(torch.stack(cosines).mean(), g)[0]
    torch.testing.assert_close(direction(g.detach()), expected, rtol=1e-10, atol=1e-12)


def test_darts_minus_fades_out_its_skip() -> None:
    supernet, step, _ = make("darts_minus")
    betas = []
    for epoch in range(4):
        step.method.set_ramps(supernet, Progress(epoch, 4))
        betas.append(supernet.connection.beta)  # type: ignore[union-attr]
    assert betas == [1.0, 0.75, 0.5, 0.25]


def test_oles_freezes_operations_for_good() -> None:
    # every cosine is below 1, so all operations are frozen after the first interval
    supernet, step, batches = make({"name": "oles", "threshold": 1.0, "interval": 1})
    before = {name: view.clone() for name, view in supernet.plain_layout()}
    for _ in range(2):
        step.step(*batches)
    moved = {name for name, view in supernet.plain_layout() if not torch.equal(view, before[name])}
    assert moved
    assert not [name for name in moved if ".ops." in name]
    # nothing is below -1
    supernet, step, batches = make({"name": "oles", "threshold": -1.0, "interval": 1})
    before = {name: view.clone() for name, view in supernet.plain_layout()}
    step.step(*batches)
    still = [name for name, view in supernet.plain_layout() if torch.equal(view, before[name])]
    assert not still


def test_a_method_needs_the_supernet_that_was_made_for_it() -> None:
    plain = ConvSupernet(channels=4, num_classes=3, layers=3, space=SPACE)
    for name in ("pc_darts", "darts_minus"):
        with pytest.raises(ConfigError, match=rf"methods.supernet\('{name}'"):
            BilevelStep(plain, SearchOptimConfig(), name)
    with pytest.raises(ConfigError, match="needs a supernet that takes mixing weights"):
        BilevelStep(MinimalToy(FeedForwardToy()), SearchOptimConfig(), "gdas")  # type: ignore[arg-type]
