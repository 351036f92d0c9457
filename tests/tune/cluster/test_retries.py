from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from darts_ray.config import SearchConfig
from darts_ray.tune import run_trials
from tests.tune.stub import StubRun, StubTrainable, epochs_run, stub_study, stub_trials

RECLAIMS = 4


class ReclaimedRun(StubRun):
    """Breaks once in every epoch, as on machines that are taken away again and again."""

    def run_epoch(self) -> dict[str, Any]:
        metrics = super().run_epoch()
        mark = self._folder / f"broken-{metrics['epoch']}"
        if not mark.exists():
            mark.touch()
            raise RuntimeError(f"reclaimed in epoch {metrics['epoch']}")
        return metrics


class StuckRun(StubRun):
    """Breaks in its third epoch whenever it comes there."""

    def run_epoch(self) -> dict[str, Any]:
        if self.epochs_done == 2:
            self._obey(3, self.config.seed)
            raise RuntimeError("the third epoch always fails")
        return super().run_epoch()


class ReclaimedTrainable(StubTrainable):
    def _build(self, config: SearchConfig, data: Any, device: Any) -> Any:
        return ReclaimedRun(config)


class StuckTrainable(StubTrainable):
    def _build(self, config: SearchConfig, data: Any, device: Any) -> Any:
        return StuckRun(config)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_more_reclaims_than_retries_are_survived_as_long_as_it_gets_on(tmp_path: Path) -> None:
    study = stub_study(tmp_path, epochs=RECLAIMS, tune={"max_failures": 1})
    (outcome,) = run_trials(
        "search",
        ReclaimedTrainable,
        stub_trials(study, 1),
        study,
        str(tmp_path / "s"),
        resume=False,
    )
    assert outcome.status == "done", outcome.error
    assert [epoch["epoch"] for epoch in outcome.history] == list(range(1, RECLAIMS + 1))
    assert len(list(tmp_path.glob("broken-*"))) == RECLAIMS


@pytest.mark.usefixtures("local_ray")
def test_a_failure_that_returns_at_the_same_epoch_ends_the_trial(tmp_path: Path) -> None:
    study = stub_study(tmp_path, tune={"max_failures": 1})
    (outcome,) = run_trials(
        "search", StuckTrainable, stub_trials(study, 1), study, str(tmp_path / "s"), resume=False
    )
    assert outcome.status == "failed"
    assert "the third epoch always fails" in str(outcome.error)
    assert epochs_run(tmp_path, 0) == [1, 2, 3, 3]
