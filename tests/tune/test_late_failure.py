"""A test that fails after a training: the network is kept, and only the test is repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.tune import Callback
from ray.tune.experiment import Trial

from darts_ray.config import build_config
from darts_ray.errors import DataError
from darts_ray.study import run_study
from darts_ray.train import load_checkpoint
from darts_ray.tune import RetrainTrainable, TrialSpec, run_trials
from darts_ray.tune.checkpoints import TEST_ERROR
from tests.data.files import write_text

LINE = "the cat sat on the mat\n"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text", train=LINE * 30, valid=LINE * 30, test=LINE * 15)


def retraining(text: Path) -> dict[str, Any]:
    return {
        "data": {"source": "text", "path": str(text)},
        "genotype": "RECURRENT_DARTS_V2",
        "network": {"kind": "recurrent", "embedding_dim": 8, "hidden_dim": 8},
        "epochs": 2,
        "batch_size": 4,
        "eval_batch_size": 2,
    }


class SpoilTest(Callback):
    """Puts a word that training has not seen into the test text after the first epoch."""

    def __init__(self, text: Path) -> None:
        self._text = text

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Any, **info: Any
    ) -> None:
        write_text(self._text, test=LINE * 15 + "the dog\n")


def test_a_failed_test_ends_the_training_with_its_network(text: Path, tmp_path: Path) -> None:
    trainable = RetrainTrainable(config=retraining(text))
    trainable.step()
    write_text(text, test="the dog\n" * 15)
    last = trainable.step()
    assert last["done"]
    assert "'dog'" in last[TEST_ERROR]
    folder = tmp_path / "checkpoint_000000"
    folder.mkdir()
    trainable.save_checkpoint(str(folder))
    assert load_checkpoint(folder / "network.pt").metrics == {}

    write_text(text, test=LINE * 15)
    again = RetrainTrainable(config=retraining(text))
    again.load_checkpoint(str(folder))
    tested = again.step()
    assert tested.keys() == last.keys() - {TEST_ERROR} | {"test_loss", "test_perplexity"}
    assert tested["train_loss"] == last["train_loss"]  # of the same epoch: none was added
    assert again.step() == tested


@pytest.mark.usefixtures("local_ray")
def test_a_failed_test_is_not_retried_and_a_resume_repeats_it_alone(
    text: Path, tmp_path: Path
) -> None:
    config = retraining(text)
    sections = {"retrain": {k: v for k, v in config.items() if k != "data"}}
    study = build_config({"name": "study", "data": config["data"], **sections}, "test")
    trials = [TrialSpec("retrain-0", config, "-", 0)]
    storage = str(tmp_path / "study")
    (failed,) = run_trials(
        "retrain",
        RetrainTrainable,
        trials,
        study,
        storage,
        resume=False,
        callbacks=[SpoilTest(text)],
    )
    assert failed.status == "failed"
    assert failed.error is not None
    assert "network is trained and kept" in failed.error
    assert "'dog'" in failed.error
    assert failed.checkpoint is not None
    assert load_checkpoint(Path(failed.checkpoint) / "network.pt").config.epochs == 2
    assert len(failed.history) == 2  # none was repeated

    write_text(text, test=LINE * 15)
    (done,) = run_trials("retrain", RetrainTrainable, trials, study, storage, resume=True)
    assert done.status == "done"
    assert len(done.history) == 2
    assert done.history[0] == failed.history[0]
    assert done.history[1]["train_loss"] == failed.history[1]["train_loss"]
    assert done.history[1]["test_perplexity"] > 1


def test_an_unusable_test_text_is_told_before_anything_starts(text: Path, tmp_path: Path) -> None:
    write_text(text, test="the dog\n" * 15)
    config = retraining(text)
    sections = {"retrain": {k: v for k, v in config.items() if k != "data"}}
    values = {
        "name": "study",
        "output": str(tmp_path / "runs"),
        "data": config["data"],
        **sections,
    }
    study = build_config({**values, "tracking": {"enabled": False}}, "test")
    with pytest.raises(DataError, match=r"Word 1 of the test text, 'dog'"):
        run_study(study, quiet=True)
    assert not (tmp_path / "runs").exists()
