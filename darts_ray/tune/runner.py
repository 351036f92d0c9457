"""Runs one stage's trials with Ray Tune, or continues them."""

from __future__ import annotations

from collections.abc import Sequence

from ray.tune import Callback, Trainable

from darts_ray.config import StudyConfig
from darts_ray.tune.trials import TrialOutcome, TrialSpec


def run_trials(
    stage: str,
    trainable: type[Trainable],
    trials: Sequence[TrialSpec],
    study: StudyConfig,
    storage: str,
    *,
    resume: bool,
    callbacks: Sequence[Callback] = (),
) -> list[TrialOutcome]:
    """Run trials side by side until each is done or has failed for good.

    Args:
        stage: `search`, `select` or `retrain`; the Tune experiment's folder is
            `<storage>/<stage>`.
        trainable: `SearchTrainable` or `RetrainTrainable`.
        trials: what to run.
        study: scheduler, searcher, resources, retries and checkpoints; the scheduler and the
            searcher act on the search stage only.
        storage: absolute path or URI of the study folder.
        resume: continue what that folder holds: finished trials stay finished, others go on from
            their last good checkpoint.
        callbacks: Tune callbacks, such as `LiveView` and `MLflowStudyCallback`.

    Returns:
        One outcome per trial, in the order of `trials`, failed ones included.

    Raises:
        ConfigError: a trial's configuration is wrong; nothing has been started.
        KeyboardInterrupt: after SIGINT, when everything that a resume needs is on disk.
    """
    raise NotImplementedError
