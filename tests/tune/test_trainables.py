from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.tune.trainable.trainable as ray_trainable
import torch
from ray.tune import Callback
from ray.tune.utils import validate_save_restore

from darts_ray.config import build_config
from darts_ray.data import open_data
from darts_ray.errors import CheckpointError, ConfigError
from darts_ray.train import load_checkpoint
from darts_ray.tune import RetrainTrainable, SearchTrainable, TrialSpec, run_trials

DATA = {"source": "digits", "max_train": 64, "max_test": 32}
SEARCH: dict[str, Any] = {
    "data": DATA,
    "network": {"channels": 2, "layers": 2},
    "epochs": 5,
    "batch_size": 16,
    "max_steps": 2,
    "optim": {"order": "unrolled"},
    "seed": 3,
}
RETRAIN: dict[str, Any] = {
    "data": DATA,
    "network": {"channels": 2, "layers": 2, "auxiliary": False},
    "epochs": 5,
    "batch_size": 16,
    "max_steps": 2,
    "train_portion": 0.5,
}
DEFAULT_STORAGE_PATH = ray_trainable.DEFAULT_STORAGE_PATH
TIMED = ("seconds", "samples_per_second", "peak_memory_bytes")
BOTH = pytest.mark.parametrize(
    ("trainable", "config"),
    [(SearchTrainable, SEARCH), (RetrainTrainable, RETRAIN)],
    ids=["search", "retrain"],
)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep Ray's result folders in tmp_path and the test's own threads few."""
    monkeypatch.setattr(ray_trainable, "DEFAULT_STORAGE_PATH", str(tmp_path / "results"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def measured(result: dict[str, Any]) -> dict[str, Any]:
    """What an epoch measured, without clocks and what Ray adds."""
    names = ("epoch", "train_loss", "validation_loss", "validation_accuracy", "genotype", "done")
    return {name: result[name] for name in names if name in result}


@pytest.fixture
def results_removed() -> Iterator[None]:
    """Without Tune a Trainable's working folder is in ~/ray_results, whatever one sets."""
    folder = Path(DEFAULT_STORAGE_PATH)
    before = set(folder.iterdir()) if folder.exists() else None
    yield
    for path in set(folder.iterdir()) - (before or set()):
        shutil.rmtree(path, ignore_errors=True)
    if before is None:
        folder.rmdir()


@pytest.mark.slow
@BOTH
@pytest.mark.usefixtures("local_ray", "results_removed")
def test_ray_finds_save_and_restore_valid(
    trainable: type[SearchTrainable], config: dict[str, Any]
) -> None:
    assert validate_save_restore(trainable, config)


@BOTH
def test_restored_run_goes_on_bit_for_bit_and_ends_by_itself(
    trainable: type[SearchTrainable], config: dict[str, Any], tmp_path: Path
) -> None:
    whole = trainable(config=dict(config))
    expected = [measured(whole.train()) for _ in range(5)]
    assert [result["done"] for result in expected] == [False] * 4 + [True]
    begun = trainable(config=dict(config))
    begun.train()
    begun.train()
    begun.save(str(tmp_path / "checkpoint_000000"))
    resumed = trainable(config=dict(config))
    resumed.restore(str(tmp_path / "checkpoint_000000"))
    rest = [resumed.train() for _ in range(3)]
    assert [measured(result) for result in rest] == expected[2:]
    assert [result["training_iteration"] for result in rest] == [3, 4, 5]
    assert measured(resumed.train()) == expected[-1]  # a finished run only repeats its last word


@BOTH
def test_a_reset_leaves_no_trace(
    trainable: type[SearchTrainable], config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    def noting(data: Any) -> Any:
        opened.append(data)
        return open_data(data)

    monkeypatch.setattr("darts_ray.tune.trainables.open_data", noting)
    other = {**config, "epochs": 2, "network": {**config["network"], "channels": 3}, "seed": 9}
    reused = trainable(config=dict(config))
    reused.train()
    assert reused.reset(dict(other))
    result = reused.train()
    assert len(opened) == 1  # once per process
    assert measured(result) == measured(trainable(config=dict(other)).train())
    assert result["training_iteration"] == 1


def test_damaged_checkpoint_is_replaced_by_the_one_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = SearchTrainable(config=dict(SEARCH))
    results = []
    for index in range(3):
        results.append(measured(run.train()))
        run.save(str(tmp_path / f"checkpoint_{index:06d}"))
    state = tmp_path / "checkpoint_000002/state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    altered = tmp_path / "checkpoint_000001/history.json"
    altered.write_text(altered.read_text().replace('"epoch": 2', '"epoch": 7'))

    resumed = SearchTrainable(config=dict(SEARCH))
    with caplog.at_level(logging.WARNING, "darts_ray.tune"):
        resumed.restore(str(tmp_path / "checkpoint_000002"))
    again = resumed.train()
    assert measured(again) == results[1]
    assert again["checkpoints_skipped"] == 2
    assert again["training_iteration"] == 2
    assert "state.pt: has" in caplog.text
    assert "history.json: its content was altered" in caplog.text
    assert "checkpoint_000000 (epoch 1)" in caplog.text
    assert "checkpoints_skipped" not in resumed.train()

    for index in range(3):
        (tmp_path / f"checkpoint_{index:06d}/manifest.json").unlink()
    resumed.restore(str(tmp_path / "checkpoint_000002"))
    assert measured(resumed.train()) == results[0]
    assert "no whole checkpoint and starts again" in caplog.text


def test_a_checkpoint_that_was_replaced_in_the_meantime_gives_its_successor(
    tmp_path: Path,
) -> None:
    run = SearchTrainable(config=dict(SEARCH))
    for index in range(2):
        run.train()
        run.save(str(tmp_path / f"checkpoint_{index:06d}"))
    shutil.rmtree(tmp_path / "checkpoint_000000")
    resumed = SearchTrainable(config=dict(SEARCH))
    resumed.restore(str(tmp_path / "checkpoint_000000"))
    assert resumed.train()["epoch"] == 3


def test_a_whole_checkpoint_of_something_else_is_an_error(tmp_path: Path) -> None:
    search = SearchTrainable(config=dict(SEARCH))
    search.save(str(tmp_path / "checkpoint_000000"))
    with pytest.raises(CheckpointError, match="does not fit"):
        RetrainTrainable(config=dict(RETRAIN)).restore(str(tmp_path / "checkpoint_000000"))


def test_the_test_set_is_read_after_the_last_epoch_only(tmp_path: Path) -> None:
    run = RetrainTrainable(config={**RETRAIN, "epochs": 2})
    first, last = run.train(), run.train()
    assert "test_accuracy" not in first
    assert 0 <= last["test_accuracy"] <= 1
    assert last["num_parameters"] > 0
    run.save(str(tmp_path / "end"))
    network = load_checkpoint(tmp_path / "end/network.pt")
    assert network.metrics["test_accuracy"] == last["test_accuracy"]
    with np.load(tmp_path / "end/test_predictions.npz", allow_pickle=False) as seen:
        assert np.mean(seen["label"] == seen["predicted"]) == last["test_accuracy"]
        assert seen["margin"].min() >= 0
        assert (seen["example"].dtype, seen["example"].shape) == (np.uint8, (1, 8, 8))
    again = RetrainTrainable(config={**RETRAIN, "epochs": 2})
    again.restore(str(tmp_path / "end"))
    again.save(str(tmp_path / "later"))  # without another look at the test set
    kept, expected = (tmp_path / name / "test_predictions.npz" for name in ("later", "end"))
    assert kept.read_bytes() == expected.read_bytes()
    untested = RetrainTrainable(config={**RETRAIN, "epochs": 1, "test_at_end": False})
    assert "test_accuracy" not in untested.train()
    untested.save(str(tmp_path / "untested"))
    assert not (tmp_path / "untested/test_predictions.npz").exists()


def test_wrong_configurations_are_explained() -> None:
    with pytest.raises(ConfigError, match=r"epoch: unknown key. Did you mean 'epochs'"):
        SearchTrainable(config={**SEARCH, "epoch": 1})
    with pytest.raises(ConfigError, match=r"network.channels"):
        RetrainTrainable(config={**RETRAIN, "network": {"channels": 0}})


class KillAfterSecondEpoch(Callback):
    """Kills the process of the first trial that reports its second epoch."""

    killed = 0

    def on_trial_result(self, result: dict[str, Any], **info: Any) -> None:
        if result["epoch"] == 2 and not self.killed:
            self.killed = result["pid"]
            os.kill(result["pid"], signal.SIGKILL)


def test_a_killed_search_equals_an_undisturbed_one_bit_for_bit(
    tmp_path: Path, local_ray: None
) -> None:
    undisturbed = SearchTrainable(config=dict(SEARCH))
    expected = [undisturbed.train() for _ in range(5)]
    sections = {name: SEARCH[name] for name in SEARCH if name not in ("data", "seed")}
    study = build_config({"name": "killed", "data": DATA, "search": sections}, "test")
    killer = KillAfterSecondEpoch()
    (outcome,) = run_trials(
        "search",
        SearchTrainable,
        [TrialSpec("search-000", SEARCH, "-", 3)],
        study,
        str(tmp_path / "study"),
        resume=False,
        callbacks=[killer],
    )
    assert killer.killed
    assert outcome.status == "done"
    for result, epoch in zip(expected, outcome.history, strict=True):
        same = [name for name in epoch if name not in TIMED]
        assert {name: epoch[name] for name in same} == {name: result[name] for name in same}
