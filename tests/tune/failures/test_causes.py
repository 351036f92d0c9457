from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from darts_ray.config import SearchConfig
from darts_ray.errors import ConfigError, DataError, NonFiniteLossError
from darts_ray.tune import TrialOutcome, run_trials
from darts_ray.tune.failures.causes import explain_failure, is_final
from darts_ray.tune.failures.worker_death import explain_death
from tests.tune.stub import StubRun, StubTrainable, epochs_run, stub_study, stub_trials

pytestmark = pytest.mark.usefixtures("local_ray")


class BrokenAtStart(StubTrainable):
    def setup(self, config: dict[str, Any]) -> None:
        raise DataError("data: http://me:word@host/x cannot be read. Mend it.")


class DivergingRun(StubRun):
    def run_epoch(self) -> dict[str, Any]:
        if self.epochs_done == 1:
            self._obey(2, self.config.seed)
            raise NonFiniteLossError("The loss became nan in epoch 2.")
        return super().run_epoch()


class Diverging(StubTrainable):
    def _build(self, config: SearchConfig, data: Any, device: Any) -> Any:
        return DivergingRun(config)


class DyingRun(StubRun):
    """Dies of a signal in its first epoch."""

    def run_epoch(self) -> dict[str, Any]:
        number = int((self._folder / "signal").read_text())
        signal.raise_signal(signal.Signals(number))
        raise AssertionError("the signal has come")


class Dying(StubTrainable):
    def _build(self, config: SearchConfig, data: Any, device: Any) -> Any:
        return DyingRun(config)


def run(trainable: type[StubTrainable], folder: Path, **tune: Any) -> TrialOutcome:
    study = stub_study(folder, tune={"max_failures": 3, **tune})
    trials = stub_trials(study, 1)
    (outcome,) = run_trials("search", trainable, trials, study, str(folder / "s"), resume=False)
    assert outcome.status == "failed"
    assert outcome.error is not None
    return outcome


def test_an_error_at_the_start_of_a_trial_is_told_as_it_is(tmp_path: Path) -> None:
    outcome = run(BrokenAtStart, tmp_path, max_failures=0)
    assert outcome.error == "DataError: data: http://***@host/x cannot be read. Mend it."


def test_what_fails_alike_is_not_tried_again(tmp_path: Path) -> None:
    outcome = run(Diverging, tmp_path)
    assert outcome.error == "NonFiniteLossError: The loss became nan in epoch 2."
    assert epochs_run(tmp_path, 0) == [1, 2]
    assert len(outcome.history) == 1  # what was before is kept


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_process_is_reported_with_the_signals_name(
    number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "signal").write_text(str(int(number)))
    outcome = run(Dying, tmp_path, max_failures=0)
    assert f"was killed by {number.name}" in str(outcome.error)
    assert "Actor" not in str(outcome.error)


def failure_of(action: Callable[[], None]) -> BaseException:
    with pytest.raises(ray.exceptions.RayError) as failure:
        ray.get(ray.remote(num_cpus=0, max_retries=0)(action).remote())
    return failure.value


def test_the_innermost_cause_of_a_task_counts() -> None:
    def chained() -> None:
        try:
            raise KeyError("inside")
        except KeyError as error:
            raise ConfigError("a.b: is wrong\nand why") from error

    error = failure_of(chained)
    assert explain_failure(error) == "ConfigError: a.b: is wrong and why"
    assert is_final(error)


def test_a_cause_that_cannot_be_sent_is_read_from_its_traceback() -> None:
    def unpicklable() -> None:
        class LocalError(Exception):
            def __reduce__(self) -> Any:
                raise TypeError("no")

        raise LocalError("first line\nsecond line")

    error = failure_of(unpicklable)
    assert explain_failure(error).endswith("LocalError: first line")
    assert not is_final(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Task was killed due to the node running low on memory.", "ran low on memory"),
        ("The actor is dead because its node has died. Node Id: 7", "node was lost"),
        ("Worker exit type: X Worker exit detail: Owner left. More", "process ended: Owner left."),
    ],
)
def test_other_deaths(text: str, said: str) -> None:
    assert said in explain_death(text)
