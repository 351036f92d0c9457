from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import ASHAScheduler

from darts_ray.tune import TrialSpec, run_trials
from darts_ray.tune.scheduling.rungs import RememberingASHA
from tests.tune.stub import StubTrainable, epochs_run, stub_study, stub_trials

ASHA = {"metric": "score", "mode": "max", "max_t": 9, "grace_period": 1, "reduction_factor": 3}


def history(*scores: float) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "training_iteration": epoch, "score": score}
        for epoch, score in enumerate(scores, start=1)
    ]


def test_rungs_are_those_of_a_run_that_was_not_interrupted() -> None:
    histories = {"a": history(1, 2, 3, 4), "b": history(2, 1), "c": history(3, 4, 5)}
    whole = ASHAScheduler(**ASHA)
    for name, epochs in histories.items():
        trial: Any = SimpleNamespace(trial_id=name)
        whole.on_trial_add(None, trial)  # type: ignore[arg-type]
        for result in epochs:
            whole.on_trial_result(None, trial, result)  # type: ignore[arg-type]
    resumed = RememberingASHA(histories, **ASHA)
    later: Any = SimpleNamespace(trial_id="d")
    resumed.on_trial_add(None, later)
    assert resumed.debug_string() == whole.debug_string()  # the cut of each rung
    assert "Iter 3.000: 4.3" in whole.debug_string()
    worst = {"training_iteration": 1, "score": 0.5}
    assert resumed.on_trial_result(None, later, worst) == "STOP"  # type: ignore[arg-type]


@pytest.mark.slow  # two starts of processes; the test above is the quick one
def test_a_resumed_stage_judges_by_what_it_saw(tmp_path: Path, local_ray: None) -> None:
    study = stub_study(tmp_path, epochs=4, tune={"scheduler": "asha", "grace_period": 1})
    trials = stub_trials(study, 4)
    optim = {**trials[3].config["optim"], "weight_lr": 1e-6, "weight_lr_min": 0.0}
    trials[3] = TrialSpec(
        name=trials[3].name, config={**trials[3].config, "optim": optim}, setting="-", seed=3
    )
    place = str(tmp_path / "study")
    run_trials("search", StubTrainable, trials[:3], study, place, resume=False)
    run_trials("search", StubTrainable, trials, study, place, resume=True)
    assert epochs_run(tmp_path, 3) == [1]  # the worst of four, as one run would have found
