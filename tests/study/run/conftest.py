"""A tiny study, and what stands in for Ray and the export where a test is about the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from darts_ray.config import ResourcesSection, StudyConfig
from darts_ray.study.files.exported import Exported
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.record import RetrainEntry
from darts_ray.study.plan.settings import search_trials
from darts_ray.tune import TrialOutcome, TrialSpec
from tests.study.fabricated import failed_outcome, search_outcome, training_outcome

TINY_NETWORK = {"channels": 2, "layers": 3, "auxiliary": False, "drop_path": 0.0}
NO_FLIP = {"crop_padding": 1, "horizontal_flip": False}


def tiny(output: Path | str, **changes: Any) -> StudyConfig:
    training = {"network": TINY_NETWORK, "augment": NO_FLIP, "max_steps": 2, "batch_size": 32}
    values: dict[str, Any] = {
        "name": "tiny",
        "output": str(output),
        "data": {"source": "digits", "max_train": 128, "max_test": 64},
        "seeds": [0, 1],
        "search": {
            "network": {"channels": 2, "layers": 3},
            "augment": NO_FLIP,
            "epochs": 2,
            "batch_size": 16,
            "max_steps": 2,
        },
        "select": {**training, "epochs": 1},
        "retrain": {**training, "epochs": 2, "seeds": [0, 1]},
        "export": {},
        "tracking": {"enabled": False},
        **changes,
    }
    return StudyConfig.model_validate(values)


def searches(config: StudyConfig) -> list[str]:
    """Return the names of a study's searches."""
    return [trial.name for trial in search_trials(config)]


class FakeRay:
    """Stands in for Ray: ends trials at once, and fails or interrupts those it is told to."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.interrupt: str | None = None
        self.started: list[str] = []
        self.continues: list[bool] = []
        self.trials: dict[str, list[TrialSpec]] = {}
        self.scores: Callable[[TrialSpec], float] = lambda spec: 0.9

    def preflight(self, *args: Any, continues: bool) -> None:
        self.continues.append(continues)

    def run_trials(
        self, stage: str, trainable: type, trials: Sequence[TrialSpec], *args: Any, **kwargs: Any
    ) -> list[TrialOutcome]:
        self.started.append(stage)
        self.trials[stage] = list(trials)
        if stage == self.interrupt:
            raise KeyboardInterrupt
        return [self.end(stage, spec) for spec in trials]

    def end(self, stage: str, spec: TrialSpec) -> TrialOutcome:
        if spec.name in self.failing:
            return failed_outcome(spec.name, spec.setting, spec.seed)
        if stage == "search":
            return search_outcome(spec.name, spec.setting, spec.seed, 2)
        score, tests = self.scores(spec), stage == "retrain"
        return training_outcome(
            stage, spec.name, spec.setting, spec.seed, 2, score, test=tests, config=spec.config
        )


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    return stand_in(monkeypatch)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """Put a `FakeRay` in the place of Ray, and of the export."""

    @contextmanager
    def no_ray(resources: ResourcesSection) -> Iterator[None]:
        yield

    def no_export(folder: StudyFolder, entry: RetrainEntry, *args: Any) -> Exported:
        return Exported(
            file="best.onnx",
            trial=entry.trial,
            seed=entry.seed,
            opset=20,
            tolerance=1e-4,
            max_difference=1e-6,
            batch_sizes=(1,),
            checked_on="nothing",
            size_bytes=1,
        )

    fake = FakeRay()
    monkeypatch.setattr("darts_ray.study.run.driver.start_ray", no_ray)
    monkeypatch.setattr("darts_ray.study.run.driver.preflight", fake.preflight)
    monkeypatch.setattr("darts_ray.study.run.driver.check_fits", lambda *args: None)
    monkeypatch.setattr("darts_ray.study.run.stages.run_trials", fake.run_trials)
    monkeypatch.setattr("darts_ray.study.run.stages.export_network", no_export)
    monkeypatch.setattr("darts_ray.study.run.stages.write_report", lambda folder: f"{folder}/r")
    return fake
