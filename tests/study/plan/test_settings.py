from pathlib import Path
from typing import Any

import pytest

from darts_ray.config import StudyConfig, build_config
from darts_ray.errors import ConfigError
from darts_ray.space import zoo
from darts_ray.study.files.entries import Candidate
from darts_ray.study.plan.settings import (
    baseline_setting,
    retrain_trials,
    search_trials,
    searches_of,
    select_trials,
    setting_text,
    settings_of,
)
from darts_ray.tune import RetrainTrainable
from tests.study.fabricated import image_config


def study(search: dict[str, Any], **changes: Any) -> StudyConfig:
    return StudyConfig.model_validate({"name": "s", "seeds": [3, 5], "search": search, **changes})


def test_grid_times_seeds() -> None:
    config = study({"optim": {"order": {"grid": ["first", "unrolled"]}}, "epochs": {"grid": [2]}})
    trials = search_trials(config)
    assert [trial.name.partition("_")[2] for trial in trials] == ["seed-3", "seed-5"] * 2
    assert len({trial.name for trial in trials}) == 4
    assert [trial.seed for trial in trials] == [3, 5, 3, 5]
    assert [trial.setting for trial in trials][::2] == [
        "order=first, epochs=2",
        "order=unrolled, epochs=2",
    ]
    assert [trial.config["seed"] for trial in trials] == [3, 5, 3, 5]
    assert trials[2].config["optim"]["order"] == "unrolled"


def test_study_without_axes_has_one_setting() -> None:
    (setting,) = settings_of(study({}))
    assert setting.text == "-"


def test_draws_are_fixed_and_shared_by_the_grid_and_the_seeds() -> None:
    search = {"optim": {"order": {"grid": ["first", "unrolled"]}, "xi": {"loguniform": [1e-3, 1]}}}
    config = study(search, tune={"num_samples": 4})
    settings = settings_of(config)
    assert settings == settings_of(config)
    assert len(settings) == 8
    drawn = [setting.values["optim.xi"] for setting in settings]
    assert drawn[:4] == drawn[4:]
    assert len(set(drawn)) == 4
    assert all(1e-3 <= value <= 1 for value in drawn)
    # the text shows the value that is used, digit for digit
    assert all(float(s.text.split("xi=")[1]) == s.values["optim.xi"] for s in settings)
    assert len(search_trials(config)) == 16


def test_equal_draws_count_once() -> None:
    config = study({"optim": {"order": {"choice": ["first"]}}}, tune={"num_samples": 5})
    assert [setting.text for setting in settings_of(config)] == ["order=first"]


def test_draws_need_a_sampled_axis() -> None:
    config = study({"optim": {"order": {"grid": ["first"]}}}, tune={"num_samples": 5})
    with pytest.raises(ConfigError, match=r"tune\.num_samples"):
        settings_of(config)


def test_an_axis_is_named_by_its_last_part_if_that_is_unique() -> None:
    assert setting_text({"optim.xi": 0.025, "epochs": 2}) == "xi=0.025, epochs=2"
    assert setting_text({"a.size": 1, "b.size": None}) == "a.size=1, b.size=null"


def test_trainings_are_named_by_their_cell() -> None:
    config = study({}, select={"seeds": [0, 1]}, retrain={"seeds": [7]})
    cell = Candidate("cell-x", zoo["DARTS_V2"], "-")
    assert [trial.name for trial in select_trials(config, [cell])] == [
        "cell-x_seed-0",
        "cell-x_seed-1",
    ]
    assert not select_trials(config, [cell])[0].config["test_at_end"]
    (first,) = retrain_trials(config, [cell])
    (other,) = retrain_trials(config, [Candidate("cell-y", zoo["DARTS_V1"], "-")])
    assert first.name.startswith("retrain-")
    assert first.name != other.name
    assert first.config["test_at_end"]
    assert first.config["seed"] == 7


def test_files_of_the_winners_networks_are_tested_with_them() -> None:
    cells = [Candidate(f"cell-{name}", zoo[name], "-") for name in ("DARTS_V2", "DARTS_V1")]
    form = {"input": "uint8_nhwc", "opset": 19}
    config = study({}, retrain={"seeds": [7]}, export=form)
    first, other = retrain_trials(config, cells)
    assert first.config["export"] == {**form, "output": "logits"}
    assert "export" not in other.config
    RetrainTrainable.parse(first.config)
    (alone,) = retrain_trials(study({}, retrain={"seeds": [7]}), cells[:1])
    assert "export" not in alone.config


def test_a_trial_keeps_its_name_whatever_is_planned_around_it() -> None:
    few = study({"epochs": 2, "optim": {"order": {"grid": ["unrolled"]}}}, seeds=[5])
    more = study(
        {"epochs": {"grid": [2, 3]}, "optim": {"order": {"grid": ["first", "unrolled"]}}},
        seeds=[0, 5],
    )
    without_axis = study({"epochs": 2, "optim": {"order": "unrolled"}}, seeds=[5])
    names = {trial.name: trial.config for trial in search_trials(more)}
    assert len(names) == 8
    for config in (few, without_axis):
        (trial,) = search_trials(config)
        assert names[trial.name] == trial.config


@pytest.mark.parametrize("seeds", ["2..4", {"first": 2, "count": 3}, [2, 3, 4]])
def test_spellings_of_seeds(seeds: Any) -> None:
    config = study({}, seeds=seeds, select={"seeds": seeds})
    assert config.seeds == (2, 3, 4)
    assert config.select is not None
    assert config.select.seeds == (2, 3, 4)


@pytest.mark.parametrize("seeds", [10, "4..2", "ten", {"first": 1}, {"count": "x"}, []])
def test_other_spellings_of_seeds_say_what_to_write(seeds: Any) -> None:
    with pytest.raises(ConfigError, match=r"seeds.*(0\.\.49|at least 1)"):
        build_config({"name": "s", "seeds": seeds, "search": {}}, "here")


def test_methods_with_their_own_defaults_are_different_searches(tmp_path: Path) -> None:
    names = ["darts", "darts_minus", "pc_darts", "sdarts", "random", "drnas", "beta_darts"]
    bases = [{"name": "darts_pt", "base": name} for name in ("darts", "darts_minus", "sdarts")]
    config = image_config(tmp_path, search={"method": {"grid": [*names, *bases]}})
    trials = search_trials(config)
    assert len({trial.name for trial in trials}) == len(trials) == 10 * len(config.seeds)


METHODS = {"method": {"grid": ["darts", "random"]}, "epochs": 2}


@pytest.mark.parametrize(
    ("baseline", "found"),
    [(None, "method=random"), ("darts", "method=darts"), ("method=random", "method=random")],
)
def test_baseline_is_a_method_or_a_setting(baseline: str | None, found: str) -> None:
    assert baseline_setting(study(METHODS, baseline=baseline)) == found


def test_baseline_that_is_no_setting_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"baseline: no setting.*gdas.*darts, random"):
        baseline_setting(study(METHODS, baseline="gdas"))
    twice = {**METHODS, "batch_size": {"grid": [32, 64]}}
    with pytest.raises(ConfigError, match="2 settings have the method 'random'; name one"):
        baseline_setting(study(twice, baseline="random"))
    assert baseline_setting(study({"epochs": 2})) is None


def test_all_settings_that_do_not_combine_are_named() -> None:
    search = {
        "network": {"channels": {"grid": [4, 6]}, "layers": 3},
        "method": {"grid": ["darts", "pc_darts", {"name": "drnas", "channels": 4}]},
    }
    config = build_config({"name": "t", "data": {"source": "digits"}, "search": search}, "test")
    with pytest.raises(ConfigError) as caught:
        searches_of(config)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert "2 of 6 settings cannot be searched" in message
    assert "channels=6, method=pc_darts: " in message
    assert message.count("4 does not divide network.channels (6)") == 2
