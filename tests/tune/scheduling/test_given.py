"""Schedulers and searchers by dotted path and as objects, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.tune.schedulers import HyperBandForBOHB, HyperBandScheduler, MedianStoppingRule
from ray.tune.schedulers.pb2 import PB2
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.optuna import OptunaSearch

from darts_ray.errors import ConfigError
from darts_ray.study.plan.estimate import plan_study
from darts_ray.tune.scheduling.given import (
    check_scheduling,
    study_scheduler,
    study_searcher,
    with_objects,
)
from tests.tune.stub import stub_study

TUNE = "ray.tune.schedulers"
RATES = {"optim": {"weight_lr": {"loguniform": [0.01, 0.1]}, "xi": {"grid": [0.0, 0.1, 0.05]}}}


def study(search: Any = RATES, **tune: Any) -> Any:
    return stub_study(Path("/nowhere"), epochs=30, search=search, tune=tune)


def named(name: str, **args: Any) -> dict[str, Any]:
    return {"type": name, "args": args}


def test_a_scheduler_is_made_with_what_the_study_knows() -> None:
    scheduler: Any = study_scheduler(study(scheduler=named(f"{TUNE}.HyperBandScheduler")), 30)
    assert isinstance(scheduler, HyperBandScheduler)
    assert (scheduler.metric, scheduler._mode) == ("validation_accuracy", "max")
    assert scheduler._max_t_attr == 30
    text = stub_study(
        Path("/nowhere"),
        data={"source": "english"},
        tune={"scheduler": named(f"{TUNE}.MedianStoppingRule", grace_period=3)},
    )
    rule: Any = study_scheduler(text, 30)
    assert isinstance(rule, MedianStoppingRule)
    assert (rule.metric, rule._mode) == ("validation_perplexity", "min")
    assert (rule._time_attr, rule._grace_period) == ("training_iteration", 3)


def test_pb2_changes_the_axes_between_their_bounds() -> None:
    scheduler: Any = study_scheduler(study(scheduler=named(f"{TUNE}.pb2.PB2")), 30)
    assert isinstance(scheduler, PB2)
    assert scheduler._hyperparam_bounds == {"optim": {"weight_lr": [0.01, 0.1], "xi": [0.0, 0.1]}}
    low = {"optim": {"weight_lr": 0.0005, "weight_lr_min": 0.001}}
    assert scheduler._custom_explore_fn is not None
    assert scheduler._custom_explore_fn(low)["optim"]["weight_lr_min"] == 0.0005


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ({"scheduler": "hyperband"}, r"tune\.scheduler: must be fifo, asha, pbt or a class"),
        ({"scheduler": named("HyperBand")}, r"tune\.scheduler\.type: String should match"),
        ({"scheduler": named("nowhere.X")}, r"tune\.scheduler\.type: nowhere cannot be imported"),
        (
            {"scheduler": named(f"{TUNE}.HyperbandScheduler")},
            rf"has no class 'HyperbandScheduler'\. Did you mean {TUNE}\.HyperBandScheduler\?",
        ),
        ({"scheduler": named("ray.tune.TuneConfig")}, r"is no ray\.tune\.schedulers\.TrialSched"),
        (
            {"scheduler": named(f"{TUNE}.HyperBandScheduler", max_time=3)},
            r"tune\.scheduler\.args\.max_time: .* Did you mean 'time_attr'\?|'max_t'\?",
        ),
        (
            {"scheduler": named(f"{TUNE}.HyperBandScheduler", max_t=0)},
            r"tune\.scheduler\.args: HyperBandScheduler cannot be made: .*not valid",
        ),
        (
            {"scheduler": named(f"{TUNE}.HyperBandScheduler", metric="loss")},
            r"tune\.scheduler: judges by 'loss', 'max'; .* Leave metric and mode out",
        ),
        (
            {"scheduler": named(f"{TUNE}.pb2.PB2", hyperparam_bounds={"epochs": [1, 9]})},
            r"tune\.scheduler: PB2 changes epochs; in mid-run optim\.weight_lr",
        ),
        (
            {"scheduler": named(f"{TUNE}.HyperBandScheduler"), "searcher": "optuna"},
            r"HyperBandScheduler compares .* take .*HyperBandForBOHB",
        ),
        ({"searcher": named(f"{TUNE}.FIFOScheduler")}, r"is no ray\.tune\.search\.Searcher"),
        (
            {"searcher": named("ray.tune.search.bayesopt.BayesOptSearch")},
            r"tune\.searcher\.args: BayesOptSearch cannot be made: .*must be installed",
        ),
        ({"scheduler": {"type": "a.B", "python": True, "args": {"x": 1}}}, "args belong to a"),
    ],
)
def test_what_is_wrong_is_told_by_the_plan(tune: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        plan_study(study(**tune))
    assert raised.value.exit_code == 2


def test_a_searcher_needs_axes_to_choose_from() -> None:
    with pytest.raises(ConfigError, match=r"tune\.searcher: OptunaSearch needs at least one axis"):
        study({}, searcher=named("ray.tune.search.optuna.OptunaSearch"))
    alone = with_objects(study({}), None, OptunaSearch())
    with pytest.raises(ConfigError, match="needs at least one axis"):
        check_scheduling(alone, search_alg=OptunaSearch())


def test_searchers_are_seeded_and_get_the_axes() -> None:
    chosen = [
        study_searcher(study(searcher=named("ray.tune.search.optuna.OptunaSearch")))
        for _ in range(2)
    ]
    first, second = (searcher.suggest("a") for searcher in chosen if searcher is not None)
    assert first is not None
    assert first == second
    assert set(first) == {"optim.weight_lr", "optim.xi"}


def test_objects_are_noted_by_their_class_and_needed_again() -> None:
    limited = ConcurrencyLimiter(OptunaSearch(seed=1), max_concurrent=2)
    noted = with_objects(study(), HyperBandForBOHB(max_t=9), limited)
    assert noted.tune.scheduler_name == "HyperBandForBOHB"
    assert noted.tune.searcher_name == "ConcurrencyLimiter"
    check_scheduling(noted)  # a plan needs no object
    with pytest.raises(ConfigError, match=r"HyperBandForBOHB.*resume_study\(folder, scheduler="):
        study_scheduler(noted, 30)
    scheduler = study_scheduler(noted, 30, given=HyperBandForBOHB(max_t=9))
    assert scheduler.metric == "validation_accuracy"
    searcher = study_searcher(noted, limited)
    assert searcher is limited
    assert set(limited.suggest("a") or {}) == {"optim.weight_lr", "optim.xi"}
    with pytest.raises(ConfigError, match="judges by 'loss'"):
        study_scheduler(noted, 30, given=HyperBandForBOHB(metric="loss", mode="min"))
    with pytest.raises(ConfigError, match=r"tune\.scheduler is in the configuration, and"):
        with_objects(study(scheduler="asha"), HyperBandForBOHB(), None)
    wrong: Any = Searcher()
    with pytest.raises(ConfigError, match=r"scheduler: Searcher is no ray\.tune"):
        with_objects(study(), wrong, None)
