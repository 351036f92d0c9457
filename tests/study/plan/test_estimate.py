import math
from dataclasses import replace
from pathlib import Path

import pytest

from darts_ray.config import ResourcesSection, SearchConfig, StudyConfig
from darts_ray.data import ImageInfo
from darts_ray.errors import ConfigError, DataError
from darts_ray.space import zoo
from darts_ray.study.plan.estimate import (
    concurrent_trials,
    num_trials,
    plan_study,
)
from darts_ray.study.plan.probe import _step_seconds, num_parameters
from darts_ray.study.plan.timing import (
    DRIVER_START_S,
    EPOCH_S,
    EXPORT_S,
    RAY_START_S,
    REPORT_S,
    TRACKER_S,
    TRIAL_START_S,
    WORKER_START_S,
    crowding,
    fixed_seconds,
    stage_seconds,
)
from tests.study.fabricated import image_config

TINY = {
    "name": "tiny",
    "data": {"source": "digits", "max_train": 200},
    "seeds": [0, 1, 2],
    "search": {
        "network": {"channels": 2, "layers": 3},
        "batch_size": 16,
        "epochs": 2,
        "max_steps": 2,
        "optim": {"order": {"grid": ["first", "unrolled"]}},
    },
    "select": {"network": {"channels": 2, "layers": 3, "auxiliary": False}, "seeds": [0, 1]},
    "retrain": {"network": {"channels": 2, "layers": 3, "auxiliary": False}, "batch_size": 20},
}


def test_plan_counts_trials_and_times_steps(tmp_path: Path) -> None:
    values = {**TINY, "output": str(tmp_path / "runs"), "resources": {"max_concurrent": 1}}
    planned = plan_study(StudyConfig.model_validate(values))
    assert {stage.stage: stage.num_trials for stage in planned.stages} == {
        "search": 6,
        "select": 12,
        "retrain": 1,
    }
    assert planned.settings == ("order=first", "order=unrolled")
    assert planned.hours is not None
    assert 0 < planned.hours < 10
    assert planned.gpu_hours == 0
    halves = replace(planned, gpus_per_trial=0.5, timed_on_gpu=False)
    assert halves.gpu_hours is None  # a CPU's steps say nothing about a GPU's
    halves = replace(halves, timed_on_gpu=True)
    assert halves.gpu_hours == sum(stage.trial_hours for stage in planned.stages) / 2
    # one trial at a time: a stage lasts as long as its trials together, and their starts
    for stage in planned.stages:
        assert stage.hours is not None
        each = TRIAL_START_S + stage.epochs * EPOCH_S
        starts = WORKER_START_S + stage.num_trials * each
        assert stage.hours == pytest.approx(stage.trial_hours + starts / 3600)
    fixed = fixed_seconds(tracks=True, exports=False)
    stages = sum(stage.hours or 0.0 for stage in planned.stages)
    assert planned.hours == pytest.approx(stages + fixed / 3600)
    assert planned.folder == str(tmp_path / "runs" / "tiny")
    assert all(stage.storage_bytes > 0 for stage in planned.stages)
    assert not (tmp_path / "runs").exists()


def test_trials_take_the_first_free_slot() -> None:
    each = TRIAL_START_S + 2 * EPOCH_S
    # on two slots: 4 beside 1 + 1 + 1, then the last after the third short one
    together = stage_seconds([4.0, 1.0, 1.0, 1.0, 5.0], epochs=2, slots=2, crowding=1.0)
    assert together == pytest.approx(WORKER_START_S + max(4 + each + 5 + each, 3 + 3 * each))
    alone = stage_seconds([4.0], epochs=2, slots=8, crowding=1.5)
    assert alone == pytest.approx(WORKER_START_S + 6 + each)


def test_everything_that_a_study_starts_takes_time() -> None:
    least = DRIVER_START_S + RAY_START_S + REPORT_S
    assert fixed_seconds(tracks=False, exports=False) == least
    assert fixed_seconds(tracks=True, exports=True) == least + TRACKER_S + EXPORT_S


@pytest.mark.parametrize(
    ("cpus_per_trial", "concurrent", "num_cpus", "slower"),
    [(1, 2, 2, 1.0), (1, 1, 2, 1.0), (0.5, 4, 2, 2.0), (2, 1, 2, 1.0), (1.5, 2, 3, 1.0)],
)
def test_trials_that_share_a_cpu_slow_each_other_down(
    cpus_per_trial: float, concurrent: int, num_cpus: int, slower: float
) -> None:
    resources = ResourcesSection(cpus_per_trial=cpus_per_trial)
    assert crowding(resources, concurrent, 1, num_cpus) == slower


@pytest.mark.parametrize(
    ("resources", "num_cpus", "num_gpus", "slots"),
    [
        ({}, 2, 0, 2),
        ({"cpus_per_trial": 0.5}, 2, 0, 4),
        ({"cpus_per_trial": 4}, 2, 0, 0),
        ({"gpus_per_trial": 1}, 16, 4, 4),
        ({"gpus_per_trial": 0.4}, 16, 2, 4),  # two trials per GPU; a fifth is left of each
        ({"gpus_per_trial": 1}, 16, 0, 0),
        ({"max_concurrent": 3}, 16, 0, 3),
        ({"workers_per_trial": 4}, 16, 0, 4),  # each worker has a CPU
        ({"workers_per_trial": 4, "gpus_per_trial": 1}, 16, 6, 1),
    ],
)
def test_trials_side_by_side(
    resources: dict[str, float], num_cpus: int, num_gpus: int, slots: int
) -> None:
    section = ResourcesSection.model_validate(resources)
    workers = section.workers_in("retrain")
    assert concurrent_trials(section, num_cpus, num_gpus, workers) == slots
    assert section.workers_in("search") == 1


def test_a_batch_that_does_not_fit_is_said_at_once(tmp_path: Path) -> None:
    values = {**TINY, "output": str(tmp_path), "search": {**TINY["search"], "batch_size": 5000}}  # type: ignore[dict-item]
    with pytest.raises(DataError, match="batch"):
        plan_study(StudyConfig.model_validate(values))


def test_workers_and_shared_gpus_are_planned(tmp_path: Path) -> None:
    values = {**TINY, "output": str(tmp_path), "resources": {"workers_per_trial": 2}}
    notes = " ".join(plan_study(StudyConfig.model_validate(values)).notes)
    assert "select and retrain train each network with 2 workers" in notes
    retrain = {**TINY["retrain"], "batch_size": 50, "genotype": "DARTS_V2"}  # type: ignore[dict-item]
    values = {
        "name": "tiny",
        "output": str(tmp_path),
        "data": {"source": "digits", "max_train": 208},  # batches of 50, and one of 8
        "retrain": retrain,
        "resources": {"workers_per_trial": 10},
    }
    with pytest.raises(ConfigError, match=r"holds 8 images, too few for 10 workers"):
        plan_study(StudyConfig.model_validate(values))
    values["resources"] = {"gpus_per_trial": 0.25}
    assert "4 trials share a GPU" in " ".join(plan_study(StudyConfig.model_validate(values)).notes)


def test_too_small_images_are_said_at_once(tmp_path: Path) -> None:
    retrain = {"network": {"channels": 2, "layers": 8}}  # its auxiliary head needs larger ones
    values = {**TINY, "output": str(tmp_path), "retrain": retrain}
    with pytest.raises(ConfigError):
        plan_study(StudyConfig.model_validate(values))


def test_a_training_with_an_auxiliary_head_is_timed(tmp_path: Path) -> None:
    values = {
        **TINY,
        "output": str(tmp_path),
        "data": {"source": "digits", "max_train": 200, "image_size": 32},
        "retrain": {"network": {"channels": 2, "layers": 3, "auxiliary": True}, "batch_size": 4},
    }
    planned = plan_study(StudyConfig.model_validate(values))
    assert [stage.hours is not None for stage in planned.stages] == [True] * 3


def test_a_step_on_a_cpu_is_prolonged_along_a_line() -> None:
    config = SearchConfig(batch_size=64, device="cpu")
    timed: list[int] = []

    def measure(config: SearchConfig) -> float:
        timed.append(config.batch_size)
        return 1 + 0.1 * config.batch_size

    assert _step_seconds(config, measure) == pytest.approx(1 + 6.4)
    assert timed == [8, 16]
    # a noisy machine: the larger batch was the faster one
    assert _step_seconds(config, lambda config: 1 / config.batch_size) == 1 / 16


def test_stages_without_sections_are_not_planned() -> None:
    config = StudyConfig.model_validate({"name": "r", "retrain": {"genotype": "DARTS_V2"}})
    assert num_trials(config) == {"retrain": 1}
    assert math.isclose(sum(num_trials(config).values()), 1)


def test_a_cell_has_a_size_without_a_section_that_trains_it(tmp_path: Path) -> None:
    """The paper's auxiliary head does not fit such images, and is not counted."""
    config = image_config(tmp_path, select=None, retrain=None, export=None)
    digits = ImageInfo(10, tuple("0123456789"), 1, (8, 8), (0.5,), (0.5,), 100, "")
    assert num_parameters(config, zoo["DARTS_V2"], digits) > 3e6


def test_a_plan_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("a plan reaches for the network")

    monkeypatch.setattr("socket.socket.connect", fetch)
    data = {"source": "cifar10", "path": str(tmp_path / "data"), "download": True}
    values = {**TINY, "output": str(tmp_path / "runs"), "data": data}
    with pytest.raises(DataError, match="A plan downloads nothing"):
        plan_study(StudyConfig.model_validate(values))
    assert list(tmp_path.iterdir()) == []


def test_what_a_searcher_will_choose_is_not_listed(tmp_path: Path) -> None:
    search = {**TINY["search"], "optim": {"xi": {"uniform": [0.1, 0.2]}}}  # type: ignore[dict-item]
    tune = {"searcher": "optuna", "num_samples": 2}
    alone = {"name": "o", "data": TINY["data"], "output": str(tmp_path)}
    planned = plan_study(StudyConfig.model_validate({**alone, "search": search, "tune": tune}))
    assert planned.settings == ()
    assert any("optuna chooses the 2 settings" in note for note in planned.notes)
