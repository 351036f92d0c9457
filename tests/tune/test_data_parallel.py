"""A trial whose training is spread over worker processes: real ones, on a real small Ray."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray.tune.trainable.trainable as ray_trainable
from ray.tune import Callback

from darts_ray.config import build_config
from darts_ray.config.study import StudyConfig
from darts_ray.errors import ConfigError
from darts_ray.train import load_checkpoint
from darts_ray.tune import RetrainTrainable, TrialOutcome, TrialSpec, run_trials

pytestmark = pytest.mark.usefixtures("local_ray")
RETRAIN: dict[str, Any] = {
    "genotype": "DARTS_V2",
    "network": {"channels": 2, "layers": 2, "auxiliary": False, "drop_path": 0.3},
    "epochs": 3,
    "batch_size": 16,
    "max_steps": 3,
    "sync_batch_norm": True,
    "device": "cpu",
}
DATA = {"source": "digits", "max_train": 64, "max_test": 32}


@pytest.fixture(autouse=True)
def results_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the result folder of a Trainable without Tune in tmp_path."""
    monkeypatch.setattr(ray_trainable, "DEFAULT_STORAGE_PATH", str(tmp_path / "results"))


def _study(workers: int, max_failures: int = 3, **retrain: Any) -> StudyConfig:
    values = {
        "name": "parallel",
        "data": DATA,
        "retrain": {**RETRAIN, **retrain},
        "resources": {"workers_per_trial": workers},
        "tune": {"max_failures": max_failures},
    }
    return build_config(values, "test")


def _config(study: StudyConfig, seed: int = 0) -> dict[str, Any]:
    return study.retrain_config("DARTS_V2", seed).model_dump(mode="json")


def _run(
    study: StudyConfig, folder: Path, *callbacks: Callback, resume: bool = False
) -> TrialOutcome:
    (outcome,) = _run_seeds(study, folder, [0], *callbacks, resume=resume)
    return outcome


def _run_seeds(
    study: StudyConfig, folder: Path, seeds: list[int], *callbacks: Callback, resume: bool = False
) -> list[TrialOutcome]:
    trials = [
        # the second one also tests the network's ONNX file
        TrialSpec(
            f"retrain-{seed}", _config(study, seed) | ({"export": {}} if seed else {}), "-", seed
        )
        for seed in seeds
    ]
    return run_trials(
        "retrain", RetrainTrainable, trials, study, str(folder), resume=resume, callbacks=callbacks
    )


def _measured(outcome: TrialOutcome) -> list[dict[str, Any]]:
    clocks = ("seconds", "samples_per_second", "peak_memory_bytes")
    assert outcome.status == "done", outcome.error
    return [
        {name: value for name, value in row.items() if name not in clocks}
        for row in outcome.history
    ]


@pytest.fixture(scope="module")
def both(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> list[TrialOutcome]:
    """Two trials, one after the other in the same processes."""
    return _run_seeds(_study(2), tmp_path_factory.mktemp("undisturbed") / "study", [0, 1])


@pytest.fixture(scope="module")
def undisturbed(both: list[TrialOutcome]) -> TrialOutcome:
    return both[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_two_workers_report_what_one_would(both: list[TrialOutcome], seed: int) -> None:
    undisturbed = both[seed]
    alone = RetrainTrainable(config=_config(_study(1), seed))
    for mine in _measured(undisturbed):
        theirs = alone.train()
        assert mine.keys() <= theirs.keys()
        measured = {"lr", "drop_path", "train_loss", "train_accuracy", "test_loss"} & mine.keys()
        numbers = {name: theirs[name] for name in measured}
        # in float32
        assert {name: mine[name] for name in numbers} == pytest.approx(numbers, rel=2e-3, abs=2e-3)
    assert undisturbed.history[-1]["test_accuracy"] >= 0
    assert undisturbed.checkpoint is not None
    saved = load_checkpoint(Path(undisturbed.checkpoint) / "network.pt")
    assert saved.metrics["test_accuracy"] == undisturbed.history[-1]["test_accuracy"]
    with np.load(Path(undisturbed.checkpoint) / "test_predictions.npz") as seen:
        assert ("file_predicted" in seen) == (seed == 1)
        if seed == 1:
            np.testing.assert_array_equal(seen["file_predicted"], seen["predicted"])


class KillWorkerInMidEpoch(Callback):
    """After the first epoch kills one of the workers while it trains."""

    killed = 0

    def on_trial_result(self, result: dict[str, Any], **info: Any) -> None:
        if result["epoch"] == 1 and not self.killed:
            threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for process in psutil.Process().children(recursive=True):
                if "TrainingWorker.run_epoch" in " ".join(process.cmdline()):
                    self.killed = process.pid
                    os.kill(process.pid, signal.SIGKILL)
                    return
            time.sleep(0.01)


@pytest.mark.slow  # starts three processes, or more
def test_a_killed_worker_changes_nothing_but_the_time(
    undisturbed: TrialOutcome, tmp_path: Path
) -> None:
    killer = KillWorkerInMidEpoch()
    outcome = _run(_study(2), tmp_path / "study", killer)
    assert killer.killed
    assert _measured(outcome) == _measured(undisturbed)


@pytest.mark.slow  # starts three processes, or more
def test_a_trial_goes_on_with_another_number_of_workers(
    undisturbed: TrialOutcome, tmp_path: Path
) -> None:
    failed = _run(_study(2, max_failures=0), tmp_path / "study", KillWorkerInMidEpoch())
    assert failed.error is not None
    assert re.fullmatch(
        r"The trial's process \(\d+ on \S+\) was killed by SIGKILL.*", failed.error
    )
    outcome = _run(_study(1), tmp_path / "study", resume=True)
    assert len(outcome.history) == 3
    for mine, theirs in zip(_measured(outcome), _measured(undisturbed), strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=2e-3)


@pytest.mark.slow  # starts three processes, or more
def test_what_goes_wrong_in_a_worker_is_told_once(tmp_path: Path) -> None:
    outcome = _run(_study(2, optim={"lr": 1e30}), tmp_path / "study")
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.startswith("NonFiniteLossError: The training loss or its gradient became")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retrain": {**RETRAIN, "batch_size": 15}}, r"does not divide retrain.batch_size \(15\)"),
        ({"retrain": None, "search": {"epochs": 1}}, "only searches"),
        ({"resources": {"workers_per_trial": 2, "gpus_per_trial": 0.5}}, "cannot share a GPU"),
        (
            {"data": {"source": "english"}, "retrain": {"genotype": "RECURRENT_DARTS_V2"}},
            "are for images",
        ),
    ],
)
def test_workers_that_cannot_be_had_are_refused(changes: dict[str, Any], message: str) -> None:
    values = {
        "name": "parallel",
        "data": DATA,
        "retrain": RETRAIN,
        "resources": {"workers_per_trial": 2},
    }
    with pytest.raises(ConfigError, match=message):
        build_config({**values, **changes}, "test")
