from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search.sample import Categorical, Float

from darts_ray.tune import axes_to_domains
from darts_ray.tune.scheduling import search_space
from darts_ray.tune.scheduling.rungs import RememberingASHA
from darts_ray.tune.scheduling.search_space import (
    get_dotted,
    keep_schedule_valid,
    make_scheduler,
    make_searcher,
    objective,
    set_dotted,
)
from tests.tune.stub import stub_study

AXES = {
    "optim": {
        "order": {"grid": ["first", "unrolled"]},
        "weight_lr": {"loguniform": [0.01, 0.1]},
        "xi": {"uniform": [0.0, 0.1]},
        "alpha_lr": {"choice": [0.001, 0.003]},
    }
}


def study(**sections: Any) -> Any:
    return stub_study(Path("/nowhere"), epochs=300, **sections)


def test_axes_become_domains() -> None:
    domains = axes_to_domains(study(search=AXES).search_axes())
    assert domains["optim.order"] == {"grid_search": ["first", "unrolled"]}
    assert isinstance(domains["optim.alpha_lr"], Categorical)
    assert domains["optim.alpha_lr"].categories == [0.001, 0.003]
    rate, xi = domains["optim.weight_lr"], domains["optim.xi"]
    assert isinstance(rate, Float)
    assert (rate.lower, rate.upper, type(rate.sampler).__name__) == (0.01, 0.1, "_LogUniform")
    assert (xi.lower, xi.upper, type(xi.sampler).__name__) == (0.0, 0.1, "_Uniform")
    choices = axes_to_domains(study(search=AXES).search_axes(), grid_as_choice=True)
    assert choices["optim.order"].categories == ["first", "unrolled"]


def recorded(
    name: str, scheduler: type[TrialScheduler], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """Note what schedulers of a class are made of."""
    given: list[dict[str, Any]] = []

    class Recorded(scheduler):  # type: ignore[misc, valid-type]
        def __init__(self, **options: Any) -> None:
            given.append(options)
            super().__init__(**options)

    monkeypatch.setattr(search_space, name, Recorded)
    return given


def test_asha_lets_long_trainings_end(monkeypatch: pytest.MonkeyPatch) -> None:
    given = recorded("RememberingASHA", RememberingASHA, monkeypatch)
    scheduler = make_scheduler(study(tune={"scheduler": "asha", "grace_period": 7}), 300)
    assert isinstance(scheduler, ASHAScheduler)
    judged = {"metric": "validation_accuracy", "mode": "max"}
    assert given == [{**judged, "max_t": 300, "grace_period": 7, "histories": {}}]
    assert isinstance(make_scheduler(study(), 300), FIFOScheduler)


def test_text_is_judged_by_perplexity() -> None:
    text = study(data={"source": "english"})
    assert objective(text) == ("validation_perplexity", "min")


def test_pbt_changes_learning_rates_only(monkeypatch: pytest.MonkeyPatch) -> None:
    given = recorded("PopulationBasedTraining", PopulationBasedTraining, monkeypatch)
    scheduler = make_scheduler(study(search=AXES, tune={"scheduler": "pbt"}), 300)
    assert isinstance(scheduler, PopulationBasedTraining)
    mutations = given[0]["hyperparam_mutations"]["optim"]
    assert set(mutations) == {"weight_lr", "xi", "alpha_lr"}
    assert mutations["alpha_lr"] == [0.001, 0.003]
    explore = given[0]["custom_explore_fn"]
    explored = explore({"optim": {"weight_lr": 0.0005, "weight_lr_min": 0.001}})
    assert explored["optim"]["weight_lr_min"] == 0.0005


def test_without_a_searcher_there_is_none() -> None:
    assert make_searcher(study(search=AXES)) is None


def test_optuna_repeats_its_choices() -> None:
    searchers = [make_searcher(study(search=AXES, tune={"searcher": "optuna"})) for _ in range(2)]
    first, second = (searcher.suggest("a") for searcher in searchers if searcher is not None)
    assert first is not None
    assert first == second
    assert set(first) == {f"optim.{name}" for name in AXES["optim"]}


def test_dotted_names_reach_into_configurations() -> None:
    config = {"optim": {"xi": 1, "order": "first"}, "epochs": 2}
    changed = set_dotted(config, {"optim.xi": 5, "network.channels": 3, "epochs": 4})
    assert changed == {
        "optim": {"xi": 5, "order": "first"},
        "network": {"channels": 3},
        "epochs": 4,
    }
    assert config["epochs"] == 2
    assert get_dotted(changed, "network.channels") == 3


def test_a_chosen_learning_rate_takes_the_schedules_end_with_it() -> None:
    config = {"optim": {"weight_lr": 2e-4, "weight_lr_min": 1e-3}, "seed": 1}
    lowered = {"optim": {"weight_lr": 2e-4, "weight_lr_min": 2e-4}, "seed": 1}
    assert keep_schedule_valid(config) == lowered
    assert keep_schedule_valid(lowered) == lowered
