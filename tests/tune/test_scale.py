"""What Tune and this room add to the trials themselves; slow, and read by a human."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.tune import Callback

from darts_ray.config import build_config
from darts_ray.tune import SearchTrainable, TrialSpec, run_trials
from tests.tune.stub import StubTrainable, stub_study, stub_trials


class Clock(Callback):
    """Notes when results arrive."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_trial_result(self, **info: Any) -> None:
        self.times.append(time.monotonic())


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


def test_200_trials_that_cost_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = stub_study(tmp_path, epochs=2)
    before = psutil.Process().memory_info().rss
    started = time.monotonic()
    outcomes = run_trials(
        "search",
        StubTrainable,
        stub_trials(study, 200),
        study,
        str(tmp_path / "study"),
        resume=False,
    )
    seconds = time.monotonic() - started
    memory = psutil.Process().memory_info().rss - before
    with capsys.disabled():
        print(f"\n200 trials: {seconds / 200:.3f} s each, driver +{memory / 2**20:.0f} MiB")
    assert all(outcome.status == "done" for outcome in outcomes)
    assert memory < 500 * 2**20


def test_between_epochs_little_time_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"source": "digits", "max_train": 512}
    search: dict[str, Any] = {
        "network": {"channels": 8, "layers": 3},
        "epochs": 6,
        "batch_size": 32,
    }
    study = build_config({"name": "overhead", "data": data, "search": search}, "test")
    config = study.search_config({}, 0)
    clock = Clock()
    (outcome,) = run_trials(
        "search",
        SearchTrainable,
        [TrialSpec("search-000", config.model_dump(mode="json"), "-", 0)],
        study,
        str(tmp_path / "study"),
        resume=False,
        callbacks=[clock],
    )
    # measured side by side in one run, so that a busy machine slows both
    elapsed = clock.times[-1] - clock.times[0]
    epochs = sum(epoch["seconds"] for epoch in outcome.history[1:])
    share = 1 - epochs / elapsed
    with capsys.disabled():
        print(f"\n{elapsed / 5:.3f} s per epoch, {100 * share:.1f} % of it outside the epoch")
    assert share < 0.2
