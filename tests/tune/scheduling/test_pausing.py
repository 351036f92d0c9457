"""HyperBand, BOHB and PB2 over a stage, interrupted or not."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.tune import Callback
from ray.tune.search import Searcher

from darts_ray.errors import CheckpointError
from darts_ray.tune import TrialOutcome, TrialSpec, run_trials
from tests.tune.stub import StubTrainable, epochs_run, stub_study, stub_trials

pytestmark = pytest.mark.usefixtures("local_ray")

HYPERBAND = {"type": "ray.tune.schedulers.HyperBandScheduler", "args": {"reduction_factor": 3}}
BOHB = {"type": "ray.tune.schedulers.HyperBandForBOHB", "args": {"reduction_factor": 3}}


class InterruptAt(Callback):
    """Sends Ctrl-C with a stage's so-many-th result."""

    def __init__(self, count: int) -> None:
        self.left = count

    def on_trial_result(self, *args: Any, **info: Any) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


def with_rates(trials: Sequence[TrialSpec], rates: Sequence[float]) -> list[TrialSpec]:
    """Give each trial a learning rate, which is how fast its score grows."""
    return [
        replace(
            trial,
            config={**trial.config, "optim": {"weight_lr": rate, "weight_lr_min": 0.0}},
        )
        for trial, rate in zip(trials, rates, strict=True)
    ]


def run(study: Any, trials: Any, folder: Path, **options: Any) -> list[TrialOutcome]:
    options = {"resume": False, **options}
    return run_trials("search", StubTrainable, trials, study, str(folder / "study"), **options)


def test_hyperband_pauses_and_its_brackets_survive_an_interruption(tmp_path: Path) -> None:
    """With 3 epochs and a third going on: a bracket of 2 for 3 epochs, one of 3 that begin with 1.

    One trial runs at a time, so those that wait must not count, and no bracket may be judged
    before all of it have run.
    """
    study = stub_study(
        tmp_path, epochs=3, tune={"scheduler": HYPERBAND}, resources={"max_concurrent": 1}
    )
    trials = with_rates(stub_trials(study, 5), [0.001, 0.001, 0.5, 0.001, 0.002])
    with pytest.raises(KeyboardInterrupt):
        run(study, trials, tmp_path, callbacks=[InterruptAt(8)])
    begun = [epochs_run(tmp_path, seed) for seed in range(5)]
    assert begun == [[1, 2, 3], [1, 2, 3], [1], [1], []]
    outcomes = run(study, trials, tmp_path, resume=True)
    assert [outcome.status for outcome in outcomes] == ["done"] * 5
    # a new scheduler would have put the two that wait into a bracket of its own and run them all
    ran = [sorted(set(epochs_run(tmp_path, seed))) for seed in range(5)]
    assert ran == [[1, 2, 3], [1, 2, 3], [1, 2, 3], [1], [1]]
    assert [len(outcome.history) for outcome in outcomes] == [3, 3, 3, 1, 1]
    assert run(study, trials, tmp_path, resume=True) == outcomes
    (tmp_path / "study/search/scheduling.pkl").write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match=r"scheduling\.pkl.*delete the file"):
        run(study, [*trials, replace(trials[0], name="search-005")], tmp_path, resume=True)
