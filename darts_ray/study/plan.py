"""What a study will run: settings x seeds as trials, with resources and estimated time."""

from __future__ import annotations

from dataclasses import dataclass

from darts_ray.config import StudyConfig


@dataclass(frozen=True)
class StagePlan:
    """One stage's trials.

    Attributes:
        stage: `search`, `select` or `retrain`.
        num_trials: trials at most (select: fewer when searches agree on a cell).
        concurrent: trials side by side on the resources that Ray will find.
        epochs: per trial.
        hours: estimated wall time of the stage; None when nothing could be timed.
        storage_bytes: estimated size of its checkpoints.
    """

    stage: str
    num_trials: int
    concurrent: int
    epochs: int
    hours: float | None
    storage_bytes: int


@dataclass(frozen=True)
class StudyPlan:
    """What a study will run, before anything is started."""

    folder: str
    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    stages: tuple[StagePlan, ...]
    cpus_per_trial: float
    gpus_per_trial: float
    notes: tuple[str, ...]

    @property
    def hours(self) -> float | None:
        """Estimated wall time of all stages."""
        hours = [stage.hours for stage in self.stages]
        return None if None in hours else sum(value for value in hours if value is not None)


def plan_study(config: StudyConfig) -> StudyPlan:
    """Return the trials, resources, estimated time and storage without running anything."""
    raise NotImplementedError
