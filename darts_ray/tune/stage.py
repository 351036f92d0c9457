"""Runs one stage's trials with Ray Tune, or continues them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow.fs
from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from darts_ray.config import StudyConfig
from darts_ray.errors import ConfigError, StorageError
from darts_ray.location import redact
from darts_ray.tune.cluster.retries import RetriesPerCheckpoint
from darts_ray.tune.failures.control_service import watch_control_service
from darts_ray.tune.failures.full_disk import full_disk, is_full
from darts_ray.tune.failures.interruption import interrupts
from darts_ray.tune.failures.trial import StorageGuard
from darts_ray.tune.reading import read_outcomes
from darts_ray.tune.scheduling.kept import KeptScheduler
from darts_ray.tune.scheduling.parts import SearchParts
from darts_ray.tune.scheduling.search_space import get_dotted
from darts_ray.tune.scheduling.state_file import STATE_FILE, KeptState, StateFile
from darts_ray.tune.trainables import RunTrainable
from darts_ray.tune.trials import TrialOutcome, TrialSpec
from darts_ray.tune.trials.folder import TrialFolder
from darts_ray.tune.trials.listing import TrialList
from darts_ray.tune.trials.recorders import AttemptRecorder, BrokenFolders, EndingRecorder
from darts_ray.tune.trials.values import resolve_values

PBT_CHECKPOINTS = 4
_ANALYSIS = "analysis.experiment_analysis"
SEARCH = "search"
"""The stage on which schedulers and searchers act; later ones compare like with like."""


def run_trials(
    stage: str,
    trainable: type[RunTrainable],
    trials: Sequence[TrialSpec],
    study: StudyConfig,
    storage: str,
    *,
    resume: bool,
    callbacks: Sequence[Callback] = (),
    setting_text: Callable[[Mapping[str, Any]], str] | None = None,
    scheduler: TrialScheduler | None = None,
    search_alg: Searcher | None = None,
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
        resume: continue what that folder holds: trials that ended stay as they are, others,
            failed ones too, go on from their newest whole checkpoint.
        callbacks: Tune callbacks, such as `LiveView` and `MLflowStudyCallback`.
        setting_text: names the values that a searcher chose, by dotted axis name; default: the
            specs' settings stay.
        scheduler: the object that the study's configuration speaks of, if it speaks of one.
        search_alg: likewise, for the searcher.

    Returns:
        One outcome per trial, in the order of `trials`, failed ones included.

    Raises:
        ConfigError: a trial's configuration is wrong; nothing has been started.
        KeyboardInterrupt: after SIGINT, when everything that a resume needs is on disk.
        Terminated: after SIGTERM, likewise.
        StorageError: the storage fails or the disk became full; what was written before is whole.
    """
    specs = [_checked(spec, trainable) for spec in trials]
    fs, root = pyarrow.fs.FileSystem.from_uri(storage)
    paths = {spec.name: f"{root.rstrip('/')}/{stage}/{spec.name}" for spec in specs}
    begun = paths if resume else {}
    folders = {name: TrialFolder.read(fs, path) for name, path in begun.items()}
    parts = SearchParts(None, None, None)
    if stage == SEARCH:
        file = StateFile(fs, f"{root.rstrip('/')}/{stage}/{STATE_FILE}")
        parts = SearchParts.of(study, specs, folders, file, scheduler, search_alg)
    choices, state = parts.choices, parts.state or KeptState()
    checkpoints = _checkpoint_config(study, parts.exploits)
    limit = study.resources.max_concurrent
    queue = TrialList(
        specs, folders, checkpoints, limit, choices, waiting=state.waiting, first=state.live
    )
    errors: dict[str, str] = {}
    if not (folders and all(folder.ended for folder in folders.values())):
        guard = StorageGuard()
        ours = [
            *callbacks,
            EndingRecorder(),
            AttemptRecorder(),
            RetriesPerCheckpoint(),
            BrokenFolders(folders),
            guard,
        ]
        decides = parts.scheduler_for(queue)
        tuner = _make_tuner(stage, trainable, queue, decides, study, storage, ours)
        one_at_a_time = choices is not None
        with _tune_environment(one_at_a_time), watch_control_service(storage), interrupts():
            _fit(tuner, guard, fs, root, storage)
            if isinstance(decides, KeptScheduler):
                decides.keep()
        errors = {
            name: trial.error_text
            for name, trial in queue.trials.items()
            if trial.status == Trial.ERROR
        }
        if errors and is_full(fs, root):
            raise full_disk(storage)
    outcomes = []
    for outcome in read_outcomes(stage, specs, storage):
        error = errors.get(outcome.name)
        if error is not None:
            outcome = replace(outcome, status="failed", error=error)
        elif outcome.status == "unfinished":
            lost = "its last checkpoint is missing or damaged; resume the study to repeat it"
            if choices is not None and choices.is_exhausted and outcome.name not in queue.trials:
                lost = f"tune.searcher: {study.tune.searcher_name} had nothing more to suggest"
            outcome = replace(outcome, status="failed", error=lost)
        if choices is not None and setting_text is not None:
            # why: a trial that failed before its first checkpoint has left no values
            trial = queue.trials.get(outcome.name)
            values = outcome.config if trial is None else trial.config
            chosen = {name: get_dotted(values, name) for name in study.search_axes()}
            outcome = replace(outcome, setting=setting_text(chosen))
        outcomes.append(outcome)
    return outcomes


def _make_tuner(
    stage: str,
    trainable: type[RunTrainable],
    queue: TrialList,
    scheduler: TrialScheduler | None,
    study: StudyConfig,
    storage: str,
    callbacks: Sequence[Callback],
) -> tune.Tuner:
    return tune.Tuner(
        tune.with_resources(trainable, _granted(stage, study)),
        tune_config=tune.TuneConfig(
            search_alg=queue,
            scheduler=scheduler,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=stage,
            storage_path=storage,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=study.tune.max_failures),
            # why: with the number to keep in here, Tune would upload all that it knows of the
            # experiment at every other checkpoint; the trials are told by `TrialList`
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=study.tune.checkpoint_every, checkpoint_at_end=True
            ),
            callbacks=list(callbacks),
        ),
    )


def _granted(stage: str, study: StudyConfig) -> tune.PlacementGroupFactory:
    """Return what a trial gets: one bundle, or beside an empty one a bundle for each worker."""
    resources = study.resources
    bundle = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
    workers = resources.workers_in(stage)
    return tune.PlacementGroupFactory([bundle] if workers == 1 else [{}, *[bundle] * workers])


def _checkpoint_config(study: StudyConfig, exploits: bool) -> tune.CheckpointConfig:
    keep = study.tune.keep_checkpoints
    if exploits:
        # why: a trial's checkpoint must live until another one has taken it over
        keep = max(keep, PBT_CHECKPOINTS)
    return tune.CheckpointConfig(
        checkpoint_frequency=study.tune.checkpoint_every, checkpoint_at_end=True, num_to_keep=keep
    )


def _fit(
    tuner: tune.Tuner, guard: StorageGuard, fs: pyarrow.fs.FileSystem, root: str, storage: str
) -> None:
    """Run Tune; what the storage makes it trip over is told as what it is.

    Raises:
        StorageError: the storage fails, or its disk is full.
    """
    try:
        tuner.fit()
    except Exception as failure:
        if is_full(fs, root):
            raise full_disk(storage) from failure
        if guard.error is not None:
            raise guard.error from failure
        cause: BaseException | None = failure
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise StorageError(
            f"{redact(storage)}: the storage fails: {redact(str(cause))}. Trials keep their last"
            f" checkpoints; go on with: darts-ray resume {redact(storage)}"
        ) from failure


def _checked(spec: TrialSpec, trainable: type[RunTrainable]) -> TrialSpec:
    """Return a spec with absolute paths, once its configuration has proved right."""
    try:
        trainable.parse(spec.config)
    except ConfigError as error:
        raise ConfigError(f"Trial {spec.name}: {error}") from error
    return TrialSpec(spec.name, resolve_values(spec.config), spec.setting, spec.seed)


@contextmanager
def _tune_environment(one_at_a_time: bool) -> Iterator[None]:
    """Set, for the time of a run, what Tune takes from environment variables only."""
    wanted = {
        # A searcher should see results before it chooses again; a fixed list need not wait, and
        # an autoscaler should see it whole.
        "TUNE_MAX_PENDING_TRIALS_PG": "1" if one_at_a_time else "200",
        # The new output prints a box even when verbose is 0.
        "RAY_AIR_NEW_OUTPUT": "0",
        # Checkpoints hold every epoch, so that nothing of Tune's own logs is needed.
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        # Trials go on from their folders alone, so that Tune's view of them is written once.
        "TUNE_GLOBAL_CHECKPOINT_S": "inf",
        # Errors of trials are reported in their outcomes, without tracebacks.
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        # Early stopping looks at a metric that a retraining on all data does not have.
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    }
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    loggers = [logging.getLogger(f"ray.tune.{name}") for name in ("tune", _ANALYSIS)]
    for tune_logger in loggers:
        tune_logger.addFilter(_is_our_business)
    try:
        yield
    finally:
        for tune_logger in loggers:
            tune_logger.removeFilter(_is_our_business)
        for name in missing:
            os.environ.pop(name, None)


def _is_our_business(record: logging.LogRecord) -> bool:
    """Drop what Tune says about failed trials, about resuming and about logs it did not keep."""
    return not record.getMessage().startswith(
        (
            "Trials did not complete",
            "Experiment has been interrupted",
            "Stop signal received",
            "Failed to fetch metrics",
        )
    )
