from typing import Any

import pytest

from darts_ray.config import StudyConfig
from darts_ray.errors import ConfigError
from darts_ray.space import zoo
from darts_ray.study.files.entries import Candidate
from darts_ray.study.plan.settings import (
    retrain_trials,
    search_trials,
    select_trials,
    setting_text,
    settings_of,
)


def study(search: dict[str, Any], **changes: Any) -> StudyConfig:
    return StudyConfig.model_validate({"name": "s", "seeds": [3, 5], "search": search, **changes})


def test_grid_times_seeds() -> None:
    config = study({"optim": {"order": {"grid": ["first", "unrolled"]}}, "epochs": {"grid": [2]}})
    trials = search_trials(config)
    assert [trial.name for trial in trials] == [f"search-{i:03d}" for i in range(4)]
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
    (first,) = retrain_trials(config, zoo["DARTS_V2"], "-")
    (other,) = retrain_trials(config, zoo["DARTS_V1"], "-")
    assert first.name.startswith("retrain-")
    assert first.name != other.name
    assert first.config["test_at_end"]
    assert first.config["seed"] == 7
