"""Each method against a slow search written from its formula, step by step in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from darts_ray.config import SearchOptimConfig
from darts_ray.nn.mixing import one_hot
from darts_ray.search import BilevelStep, SearchRun, methods
from darts_ray.search.parts import Progress
from darts_ray.search.spectrum import signed_eigenvalue
from darts_ray.search.step.relaxing import relax
from darts_ray.space import SearchSpace
from tests.reference import relaxations
from tests.reference import slow_search as slow
from tests.reference.slow_supernet import SlowSupernet, copy_weights, weights_of
from tests.search.small import image_config, image_data

NAMES = ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3", "dil_conv_3x3")
NODES = 2
SPACE = SearchSpace.darts("slow", NAMES, nodes=NODES)
T = Progress(epoch=3, epochs=10)
STEPS = 3

METHODS: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any]]] = {
    # by test: the method; its slow search, with values of its own; arguments of the slow network
    "darts": ("darts", slow.SlowSearch, {}, {}),
    "darts_minus": ("darts_minus", slow.DartsMinus, {}, {"auxiliary": True}),
    "pc_darts": ({"name": "pc_darts", "channels": 2}, slow.PCDarts, {}, {"k": 2}),
    "sdarts": ("sdarts", slow.SDartsRandom, {}, {}),
    "sdarts_adversarial": (
        {"name": "sdarts", "perturbation": "adversarial"}, slow.SDartsAdversarial, {}, {},
    ),
    "gdas": ("gdas", slow.Gdas, {}, {}),
    "gdas_exact": ({"name": "gdas", "unselected": "exact"}, slow.GdasExact, {}, {}),
    "snas": ("snas", slow.Snas, {}, {}),
    "drnas": ("drnas", slow.DrNas, {}, {}),
    "beta_darts": ("beta_darts", slow.BetaDarts, {}, {}),
    "fair_darts": ("fair_darts", slow.FairDarts, {}, {}),
    "lambda_darts": ({"name": "lambda_darts", "epsilon": 1e-6}, slow.LambdaDarts, {}, {}),
    "oles": (
        {"name": "oles", "threshold": 0.1, "interval": 2}, slow.Oles,
        {"threshold": 0.1, "interval": 2}, {},
    ),
    "random_ws": (
        "random_ws", slow.RandomWS, {"columns": (1, 2, 3, 4), "trains_alphas": False}, {},
    ),
}  # fmt: skip


def batches(number: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(number)
    return [
        (
            torch.randn(6, 1, 8, 8, generator=generator, dtype=torch.float64),
            torch.randint(3, (6,), generator=generator),
        )
        for _ in range(2)
    ]


@pytest.mark.parametrize("name", METHODS)
def test_steps_equal_those_of_the_slow_search(name: str) -> None:
    method, slow_method, values, sizes = METHODS[name]
    torch.manual_seed(1)
    ours: Any = methods.supernet(
        method, space=SPACE, channels=4, num_classes=3, layers=4, stem_multiplier=1, in_channels=1
    ).double()
    with torch.no_grad():
        for alpha in ours.alphas.values():
            alpha += 0.5 * torch.randn_like(alpha)
            if name == "snas":
                alpha.clamp_(min=0.3)  # its logarithm is taken
    optim = SearchOptimConfig(weight_lr=0.05, weight_decay=0.01, grad_clip=1.0, alpha_lr=0.01)
    step = BilevelStep(ours, optim, method)
    step.progress = T
    step.alpha_step = values.get("trains_alphas", True)
    step.method.set_ramps(ours, T)
    network = SlowSupernet(
        NAMES, c=4, classes=3, layers=4, nodes=NODES, stem_multiplier=1, **sizes
    ).double()
    alphas = {key: alpha.detach().clone().requires_grad_() for key, alpha in ours.alphas.items()}
    search = slow_method(copy_weights(ours, network), alphas, optim, T.epoch, T.epochs, **values)
    close = (
        {"rtol": 1e-6, "atol": 1e-8} if name == "lambda_darts" else {"rtol": 1e-8, "atol": 1e-10}
    )
    for number in range(STEPS):
        train, valid = batches(number)
        valid = train if name == "snas" else valid
        torch.manual_seed(10 + number)
        result = step.step(train, valid)
        torch.manual_seed(10 + number)
        expected = search.step(train, valid)
        assert result.train_loss.item() == pytest.approx(expected["train_loss"], rel=1e-7)
        assert result.grad_norm.item() == pytest.approx(expected["grad_norm"], rel=1e-6)
        for key, alpha in ours.alphas.items():
            torch.testing.assert_close(alpha.detach(), alphas[key].detach(), **close)
        views = weights_of(ours)
        for key, parameter in search.net.named_parameters():
            torch.testing.assert_close(
                views[key].detach(), parameter.detach(), **close, msg=lambda m, k=key: f"{k}: {m}"
            )
    if name == "oles":
        assert 0 < len(search.stopped) < len(search.net.operations())


def small_run(method: dict[str, Any], **values: Any) -> tuple[SearchRun, SlowSupernet]:
    """A search in float64 after its first epoch, and a slow supernet with its weights."""
    config = image_config(
        space={"name": "slow", "primitives": NAMES, "nodes": NODES},
        method=method,
        network={"channels": 4, "layers": 3, "stem_multiplier": 1},
        optim={"alpha_lr": 0.3},
        epochs=1,
        **values,
    )
    run = SearchRun(config, image_data(num=42), torch.device("cpu"))
    network = SlowSupernet(NAMES, c=4, classes=3, layers=3, nodes=NODES, stem_multiplier=1)
    return run, network


@torch.no_grad()
def accuracy(network: SlowSupernet, given: list[Any], p: dict[str, torch.Tensor]) -> float:
    hits = [(network(x, p).argmax(1) == labels).sum().item() for x, labels in given]
    return sum(hits) / sum(len(labels) for _, labels in given)


def test_random_ws_picks_the_best_of_its_samples_as_the_slow_search_does() -> None:
    samples, few, finalists = 12, 1, 3
    method = {"name": "random_ws", "samples": samples, "batches": few, "finalists": finalists}
    run, network = small_run(method, eval_batch_size=7)
    run.run_epoch()
    copy_weights(run.supernet, network)
    torch.manual_seed(3)
    ours = run._derivation.end_search(run)["sampled_cells"]
    torch.manual_seed(3)
    whole = list(run.batches.evaluation_batches())
    shapes = run.supernet.space.alpha_shapes
    cells = [slow.random_cell(shapes, (1, 2, 3, 4)) for _ in range(samples)]
    cells = [{name: p.float() for name, p in cell.items()} for cell in cells]
    scores = [accuracy(network, whole[:few], cell) for cell in cells]
    best = sorted(range(samples), key=lambda i: -scores[i])[:finalists]  # the first of equal ones
    finals = sorted((accuracy(network, whole, cells[i]) for i in best), reverse=True)
    assert [cell["score"] for cell in ours] == pytest.approx(finals)
    assert len(set(scores)) > 3
    # and the result is the first of them, in the same genotype
    winner = max(best, key=lambda i: accuracy(network, whole, cells[i]))
    p = one_hot(run.genotype(), run.supernet.space).weights
    for name, rows in cells[winner].items():
        assert torch.equal(p[name], rows)
    assert ours[0]["genotype"] == run.genotype().to_json()


def test_darts_pt_removes_what_the_slow_supernet_misses_least() -> None:
    run, network = small_run({"name": "darts_pt", "interval": 1})
    run.run_epoch()
    copy_weights(run.supernet, network)
    alphas = {name: alpha.detach() for name, alpha in run.supernet.alphas.items()}
    p = relaxations.softmax(alphas)
    passes: list[Any] = []  # each candidate is scored on a pass of its own, shuffled and augmented
    real = run.batches.alpha_pass
    run.batches.alpha_pass = lambda: passes.append(list(real())) or iter(passes[-1])  # type: ignore[method-assign]
    run.begin_epoch()
    assert run._epoch is not None
    seen = iter(passes)
    for decision in run._epoch.metrics["projection"]:
        name, row = decision["cell"], decision["edge"]
        expected = {}
        for column, primitive in enumerate(NAMES):
            if primitive != "none":
                without = {**p, name: p[name].clone()}
                without[name][row, column] = 0  # the others are not renormalised
                expected[primitive] = accuracy(network, next(seen), without)
        assert decision["without"] == pytest.approx(expected)
        assert decision["chosen"] == min(expected, key=expected.__getitem__)
        # decided: weight one from now on, in the other cell's scores too
        p[name][row] = torch.tensor([float(n == decision["chosen"]) for n in NAMES])


@pytest.mark.parametrize("name", ["darts", "fair_darts", "pc_darts"])
def test_the_signed_eigenvalue_is_that_of_the_whole_hessian(name: str) -> None:
    """As RobustDARTS measures it, from the slow supernet: all alphas jointly, plus the decay."""
    method, slow_method, _, sizes = METHODS[name]
    torch.manual_seed(2)
    ours: Any = methods.supernet(
        method,
        space=SPACE.resized(1),
        channels=4,
        num_classes=3,
        layers=3,
        stem_multiplier=1,
        in_channels=1,
    ).double()
    with torch.no_grad():
        for alpha in ours.alphas.values():
            alpha += 0.5 * torch.randn_like(alpha)
    network = SlowSupernet(
        NAMES, c=4, classes=3, layers=3, nodes=1, stem_multiplier=1, **sizes
    ).double()
    copy_weights(ours, network)
    train, valid = batches(0)
    alphas = {key: alpha.detach() for key, alpha in ours.alphas.items()}
    sizes_of = [alpha.numel() for alpha in alphas.values()]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = zip(alphas.items(), flat.split(sizes_of), strict=True)
        given = {key: part.view_as(alpha) for (key, alpha), part in parts}
        search = slow_method(network, given, SearchOptimConfig(), 0, 1)
        return network.loss(valid, search.mixing("alpha", train), search.edges())

    flat = torch.cat([alpha.flatten() for alpha in alphas.values()])
    hessian = torch.autograd.functional.hessian(loss, flat)
    decayed = hessian + 1e-3 * torch.eye(len(hessian))
    spectrum = torch.linalg.eigvalsh(decayed)
    found = signed_eigenvalue(
        ours,
        valid,
        relax=lambda: relax(methods.make(method), ours, "alpha", Progress(0, 1)),
        weight_decay=1e-3,
    )
    assert found == pytest.approx(spectrum[-1].item(), rel=1e-8)
    # what a magnitude, or no decay, would give is another number
    assert found != pytest.approx(spectrum[-1].item() - 1e-3, rel=1e-6)
