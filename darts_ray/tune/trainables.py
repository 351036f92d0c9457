"""A search and a retraining as Ray Tune class Trainables."""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.fs
import torch
from ray import tune

from darts_ray.config import DataConfig, RetrainConfig, SearchConfig
from darts_ray.data import ImageData, TextData, open_data
from darts_ray.location import with_patience
from darts_ray.runtime.memory import keep_freed_memory
from darts_ray.search import SearchRun
from darts_ray.train.predictions import write_predictions
from darts_ray.tune.checkpoints import (
    CONFIG,
    DAMAGED,
    HISTORY,
    TEST_ERROR,
    DamagedCheckpointError,
    check_sealed,
    replacements,
    seal,
)
from darts_ray.tune.data_parallel import DataParallelRun, WorkerGroup
from darts_ray.tune.deployed import DeployedRun, parse_retraining
from darts_ray.tune.failures.full_disk import temporary_folder
from darts_ray.tune.trials.values import parse_config, plain

STATE = "state.pt"
NETWORK = "network.pt"  # a retraining's deployable network

logger = logging.getLogger("darts_ray.tune")


class RunTrainable(tune.Trainable):
    """What both trainables share: one epoch per step, exact checkpoints, a full reset.

    A checkpoint folder holds the run's state, the metrics of every epoch so far, and a manifest
    by which damage is recognised. A damaged or missing checkpoint is replaced by the one before
    it, which is logged and counted in the next epoch's metric `checkpoints_skipped`.
    """

    _run: Any
    _history: list[dict[str, Any]]
    _skipped: int

    def setup(self, config: dict[str, Any]) -> None:
        """Open the data and build the run.

        Raises:
            ConfigError: a key is unknown or a value is wrong.
            DataError: the data cannot be opened or do not fit.
        """
        keep_freed_memory()
        self._opened: tuple[DataConfig, ImageData | TextData] | None = None
        self._begin(config)

    def step(self) -> dict[str, Any]:
        """Run one epoch; `done` is true after the last one, so no stopping rule is needed."""
        if self._history and self._history[-1]["done"]:
            self._history[-1] = self._again_after_done(self._history[-1])
            return dict(self._history[-1])
        metrics = self._run_epoch()
        if self._skipped:
            metrics["checkpoints_skipped"] = self._skipped
            self._skipped = 0
        self._history.append(metrics)
        return dict(metrics)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write a checkpoint from which the run goes on bit for bit (on a CPU)."""
        folder, state = Path(checkpoint_dir), self._run.state_dict()
        with (folder / STATE).open("wb") as file:  # given a path, PyTorch hides the system's error
            torch.save(state, file)
        (folder / HISTORY).write_text(json.dumps(self._history), encoding="utf-8")
        (folder / CONFIG).write_text(json.dumps(plain(self.config)), encoding="utf-8")
        self._save_extra(folder, state)
        seal(folder)

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Write a checkpoint and bring it to the study's storage.

        Args:
            checkpoint_dir: as in `tune.Trainable.save`.

        Raises:
            StorageError: the storage fails, again and again, or the temporary disk is full.
        """
        storage = self._storage
        before = -1 if storage is None else storage.current_checkpoint_index

        def attempt() -> Any:
            if storage is None:
                return tune.Trainable.save(self, checkpoint_dir)
            storage.current_checkpoint_index = before  # Tune counts attempts
            with temporary_folder() as temporary:
                return tune.Trainable.save(self, checkpoint_dir or temporary)

        return with_patience(attempt, f"Checkpoint of trial {self.trial_name}")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from a checkpoint folder, with the hyperparameters of the present config.

        Raises:
            DamagedCheckpointError: a file is missing, cut short or altered.
            CheckpointError: it is of another kind of run.
        """
        folder = Path(checkpoint)
        check_sealed(pyarrow.fs.LocalFileSystem(), str(folder))
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        self._run.load_state_dict(state)
        self._history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
        self._iteration = self._run.epochs_done

    def restore(self, checkpoint_path: Any) -> None:
        """Restore a checkpoint, or the newest whole one that the same trial wrote before it.

        Without any the run starts again, which costs time and changes no result.

        Args:
            checkpoint_path: as in `tune.Trainable.restore`.

        Raises:
            StorageError: the storage fails, so nobody knows which checkpoints there are.
        """
        # why: Ray passes a result that holds the checkpoint, users pass a Checkpoint or a path
        found = getattr(checkpoint_path, "checkpoint", checkpoint_path)
        wanted = tune.Checkpoint(found) if isinstance(found, str) else found
        others = [
            tune.Checkpoint(path, filesystem=wanted.filesystem)
            for path in replacements(wanted.filesystem, wanted.path)
        ]
        skipped = int(getattr(checkpoint_path, "metrics", {}).get(DAMAGED, 0))
        for candidate in [wanted, *others]:
            try:
                check_sealed(candidate.filesystem, candidate.path, content=False)
                source = checkpoint_path if candidate is wanted else candidate
                with_patience(partial(super().restore, source), candidate.path)
            except DamagedCheckpointError as error:
                skipped += 1
                logger.warning("Trial %s: damaged checkpoint skipped: %s", self.trial_name, error)
                continue
            self._skipped = skipped
            if skipped:
                at = self.trial_name, candidate.path, self._run.epochs_done
                logger.warning("Trial %s goes on from %s (epoch %d)", *at)
            return
        logger.warning("Trial %s has no whole checkpoint and starts again", self.trial_name)
        self._begin(self.config)
        self._skipped = skipped
        self._iteration = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial in the same process; the opened data are kept if they serve."""
        self._begin(new_config)
        return True

    @classmethod
    @abstractmethod
    def parse(cls, config: dict[str, Any]) -> SearchConfig | RetrainConfig:
        """Validate a trial's values without starting anything.

        Raises:
            ConfigError: a key is unknown (with the nearest valid one) or a value is wrong.
        """

    @abstractmethod
    def _build(self, config: Any, data: ImageData | TextData, device: Any) -> Any: ...

    @abstractmethod
    def _run_epoch(self) -> dict[str, Any]: ...

    def _again_after_done(self, last: dict[str, Any]) -> dict[str, Any]:
        """Return the last epoch's metrics when a run that has ended is asked for a step."""
        return last

    def _save_extra(self, folder: Path, state: dict[str, Any]) -> None:
        """Write what else belongs into a checkpoint folder."""

    def _begin(self, values: dict[str, Any]) -> None:
        config = self.parse(values)
        resources = self.trial_resources
        granted = None if resources is None else resources.required_resources
        device = None
        if granted is not None:
            torch.set_num_threads(max(1, int(granted.get("CPU", 1))))
            if config.device == "auto" and not granted.get("GPU"):
                device = torch.device("cpu")
        self._run = self._make_run(config, device)
        self._history = []
        self._skipped = 0

    def _make_run(self, config: Any, device: Any) -> Any:
        if self._opened is None or self._opened[0] != config.data:
            self._opened = (config.data, open_data(config.data))
        return self._build(config, self._opened[1], device)


class SearchTrainable(RunTrainable):
    """One search; `param_space` holds the fields of `SearchConfig` as a nested dict.

    Each step is one epoch and reports the metrics of `SearchRun.run_epoch`; the last reports
    `done`. `validation_accuracy` (images; more is better) or `validation_perplexity` (text; less
    is better) is the metric for Tune's schedulers and searchers. Population based training may
    change `optim.weight_lr`, `optim.alpha_lr` and `optim.xi` in mid-run.
    """

    _run: SearchRun

    @classmethod
    def parse(cls, config: dict[str, Any]) -> SearchConfig:
        """Validate the fields of a `SearchConfig`."""
        return parse_config(SearchConfig, config)

    def _build(self, config: SearchConfig, data: Any, device: Any) -> SearchRun:
        return SearchRun(config, data, device)

    def _run_epoch(self) -> dict[str, Any]:
        metrics = self._run.run_epoch()
        return {**metrics, "done": self._run.finished}


class RetrainTrainable(RunTrainable):
    """One retraining; `param_space` holds the fields of `RetrainConfig` as a nested dict.

    Each step is one epoch and reports the metrics of `RetrainRun.run_epoch` and the network's
    size; the last reports `done` and, with `test_at_end`, the only look at the test set, or as
    `test_error` why that failed; one more step then repeats the test alone. With `export` beside
    those fields (`opset`, `input`, `output`) the ONNX file sees the test set in the same pass.
    Every checkpoint folder holds `network.pt`, which `darts_ray.train.load_checkpoint` reads.

    Where Tune grants an empty head bundle and others beside it (`parallel_resources`), a worker
    process in each of those trains with its share of every batch.
    """

    _run: DeployedRun | DataParallelRun
    _group: WorkerGroup | None = None

    @classmethod
    def parse(cls, config: dict[str, Any]) -> RetrainConfig:
        """Validate the fields of a `RetrainConfig`."""
        return parse_retraining(config)[0]

    def cleanup(self) -> None:
        """End the worker processes, if there are any; Tune calls this last."""
        if self._group is not None:
            self._group.close()

    def _begin(self, values: dict[str, Any]) -> None:
        config, self._form = parse_retraining(values)
        super()._begin(values)
        self._tests = config.test_at_end
        self._size = self._run.describe()

    def _make_run(self, config: RetrainConfig, device: Any) -> DeployedRun | DataParallelRun:
        granted = self.trial_resources
        if granted is None or not granted.head_bundle_is_empty:
            run: DeployedRun = super()._make_run(config, device)
            return run
        if self._group is None:
            self._group = WorkerGroup(granted.bundles)
        return DataParallelRun(config, self._group, self._form)

    def _build(self, config: RetrainConfig, data: Any, device: Any) -> DeployedRun:
        return DeployedRun(config, data, device, form=self._form)

    def _run_epoch(self) -> dict[str, Any]:
        metrics = {**self._run.run_epoch(), **self._size, "done": self._run.finished}
        return metrics | self._test() if metrics["done"] and self._tests else metrics

    def _again_after_done(self, last: dict[str, Any]) -> dict[str, Any]:
        """Repeat a test that failed, and nothing else."""
        if TEST_ERROR not in last:
            return last
        return {key: value for key, value in last.items() if key != TEST_ERROR} | self._test()

    def _test(self) -> dict[str, Any]:
        """Test the network; when that fails, keep it and say why, as training it was not in vain.

        An exception would throw away the last epoch, and repeating that epoch would not help.
        """
        try:
            return self._run.test()
        except Exception as error:  # whatever it is, the training before it has succeeded
            logger.warning("Trial %s: the test failed", self.trial_name, exc_info=True)
            return {TEST_ERROR: f"{type(error).__name__}: {error}"}

    def _save_extra(self, folder: Path, state: dict[str, Any]) -> None:
        self._run.save(folder / NETWORK)
        write_predictions(folder, state["test_predictions"])
