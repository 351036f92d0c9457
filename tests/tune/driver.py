"""A driver process that a test interrupts: python -m tests.tune.driver FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import ray

from darts_ray.tune import run_trials
from tests.tune.stub import StubTrainable, stub_study, stub_trials

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    study = stub_study(folder)
    try:
        run_trials(
            "search",
            StubTrainable,
            stub_trials(study, 3),
            study,
            str(folder / "study"),
            resume=False,
        )
    except KeyboardInterrupt:
        (folder / "interrupted").touch()
    ray.shutdown()
