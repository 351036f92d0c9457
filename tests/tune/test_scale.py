"""What Tune adds to the epochs themselves; slow, and read by a human."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ray.tune import Callback

from darts_ray.config import StudyConfig, build_config
from darts_ray.tune import SearchTrainable, TrialSpec, run_trials

EPOCHS = 5
BARE_LOOP = """
import json, sys, time
import torch
from darts_ray.config import SearchConfig
from darts_ray.data import open_data
from darts_ray.search import SearchRun

torch.set_num_threads(1)
config = SearchConfig.model_validate(json.loads(sys.argv[1]))
run = SearchRun(config, open_data(config.data), torch.device("cpu"))
times = [time.monotonic()]
for _ in range(run.epochs):
    run.run_epoch()
    times.append(time.monotonic())
print(json.dumps([b - a for a, b in zip(times[1:], times[2:])]))
"""
"""Prints the seconds of all epochs but the first."""


class Clock(Callback):
    """Notes when results arrive."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_trial_result(self, **info: Any) -> None:
        self.times.append(time.monotonic())


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


def study_of(channels: int, **data: Any) -> StudyConfig:
    search: dict[str, Any] = {
        "network": {"channels": channels, "layers": 3},
        "epochs": EPOCHS,
        "batch_size": 32,
    }
    values = {"name": "overhead", "data": {"source": "digits", **data}, "search": search}
    return build_config(values, "test")


def specs(study: StudyConfig, seeds: int) -> list[TrialSpec]:
    return [
        TrialSpec(
            f"search-{seed:03d}", study.search_config({}, seed).model_dump(mode="json"), "-", seed
        )
        for seed in range(seeds)
    ]


def test_one_trial_against_the_bare_loop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In turns in one run, so that a busy machine slows both."""
    study = study_of(8, max_train=256)
    config = study.search_config({}, 0).model_dump_json()
    bare: list[float] = []
    inside: list[float] = []
    for turn in range(2):
        done = subprocess.run(
            [sys.executable, "-c", BARE_LOOP, config], check=True, capture_output=True, text=True
        )
        bare += json.loads(done.stdout)
        clock = Clock()
        storage = str(tmp_path / f"study-{turn}")
        run_trials(
            "search",
            SearchTrainable,
            specs(study, 1),
            study,
            storage,
            resume=False,
            callbacks=[clock],
        )
        inside += [b - a for a, b in zip(clock.times, clock.times[1:], strict=False)]
    ratio = statistics.median(inside) / statistics.median(bare)
    with capsys.disabled():
        print(
            f"\n{statistics.median(bare):.3f} s per epoch bare,"
            f" {statistics.median(inside):.3f} s inside Tune: {100 * (ratio - 1):+.1f} %"
        )
    assert ratio < 1.2


def test_eight_tiny_trials_on_two_cpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(4)
    clock = Clock()
    outcomes = run_trials(
        "search",
        SearchTrainable,
        specs(study, 8),
        study,
        str(tmp_path / "study"),
        resume=False,
        callbacks=[clock],
    )
    # from the first results on: starting the two processes is paid once
    elapsed = clock.times[-1] - clock.times[0]
    epochs = sum(epoch["seconds"] for outcome in outcomes for epoch in outcome.history)
    first = sum(outcome.history[0]["seconds"] for outcome in outcomes[:2])
    share = 1 - (epochs - first) / (2 * elapsed)
    with capsys.disabled():
        print(
            f"\n{epochs / len(clock.times):.3f} s per epoch,"
            f" {100 * share:.1f} % of two CPUs' time outside epochs"
        )
    assert share < 0.5
