"""HyperBand, BOHB and PB2 over a stage, interrupted or not."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem
from ray.tune import Callback
from ray.tune.search import Searcher

from darts_ray.errors import CheckpointError
from darts_ray.tune import TrialOutcome, TrialSpec, run_trials
from darts_ray.tune.scheduling.state_file import StateFile
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


class Halving(Searcher):
    """Halves the learning rate from choice to choice, and notes what BOHB's searcher needs."""

    def __init__(self, metric: str | None = None, mode: str | None = None) -> None:
        super().__init__(metric=metric, mode=mode)
        self.rate = 0.8
        self.heard: list[str] = []

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self.rate /= 2
        self.heard.append(f"{trial_id} begins")
        return {"optim.weight_lr": self.rate}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if "budget" in result["hyperband_info"]:
            self.heard.append(f"{trial_id} at {result['hyperband_info']['budget']}")

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        self.heard.append(f"{trial_id} ends")

    def on_pause(self, trial_id: str) -> None:
        self.heard.append(f"{trial_id} pauses")

    def on_unpause(self, trial_id: str) -> None:
        self.heard.append(f"{trial_id} goes on")


AXIS = {"optim": {"weight_lr": {"loguniform": [0.001, 0.5]}}}


def settings(study: Any, number: int) -> list[TrialSpec]:
    """Return trials of a setting each, whose values a searcher chooses."""
    return [
        replace(spec, setting=f"draw {spec.seed}")
        for spec in stub_trials(study, number, **{"optim.weight_lr": 0.001})
    ]


@pytest.mark.slow  # two starts of processes, and one trial at a time
def test_bohb_tells_its_searcher_of_pauses_and_both_survive_an_interruption(
    tmp_path: Path,
) -> None:
    searcher = {"type": f"{__name__}.Halving"}
    study = stub_study(
        tmp_path,
        epochs=3,
        search=AXIS,
        tune={"scheduler": BOHB, "searcher": searcher},
        resources={"max_concurrent": 1},
    )
    trials = settings(study, 5)
    with pytest.raises(KeyboardInterrupt):
        run(study, trials, tmp_path, callbacks=[InterruptAt(2)])
    outcomes = run(study, trials, tmp_path, resume=True)
    assert [outcome.status for outcome in outcomes] == ["done"] * 5
    rates = [outcome.config["optim"]["weight_lr"] for outcome in outcomes]
    assert rates == [0.4, 0.2, 0.1, 0.05, 0.025]  # it went on where it was
    # the largest bracket is filled first: of three that begin with one epoch the best goes on
    ran = [len(outcome.history) for outcome in outcomes]
    assert ran == [3, 1, 1, 3, 3]
    state = StateFile(LocalFileSystem(), str(tmp_path / "study/search/scheduling.pkl"))
    kept = state.read()
    assert kept is not None
    heard = state.choices(kept)._searcher.heard  # type: ignore[union-attr]
    for number in (0, 1):  # Tune tells no searcher of a result that ends its trial
        assert heard.index(f"draw {number} at 1") < heard.index(f"draw {number} ends")
    assert heard.index("draw 0 pauses") < heard.index("draw 0 goes on")
    assert "draw 1 goes on" not in heard
    assert heard.count("draw 0 ends") == 1


@pytest.mark.slow  # needs two packages that nobody maintains: pip install hpbandster ConfigSpace
@pytest.mark.filterwarnings("ignore")
def test_bohb_with_its_own_searcher(tmp_path: Path) -> None:
    pytest.importorskip("hpbandster")
    study = stub_study(
        tmp_path,
        epochs=3,
        search=AXIS,
        tune={"scheduler": BOHB, "searcher": {"type": "ray.tune.search.bohb.TuneBOHB"}},
    )
    trials = settings(study, 10)
    with pytest.raises(KeyboardInterrupt):
        run(study, trials, tmp_path, callbacks=[InterruptAt(7)])
    outcomes = run(study, trials, tmp_path, resume=True)
    assert [outcome.status for outcome in outcomes] == ["done"] * 10
    assert {len(outcome.history) for outcome in outcomes} == {1, 3}
    assert len({outcome.config["optim"]["weight_lr"] for outcome in outcomes}) == 10


@pytest.mark.slow  # a population has to run side by side
@pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")  # of Ray's PB2
def test_pb2_takes_over_weights_and_chooses_learning_rates(tmp_path: Path) -> None:
    pb2 = {"type": "ray.tune.schedulers.pb2.PB2", "args": {"perturbation_interval": 2}}
    study = stub_study(tmp_path, epochs=8, search=AXIS, tune={"scheduler": pb2})
    (tmp_path / "pause").write_text("0.1")
    trials = with_rates(stub_trials(study, 2, **{"optim.weight_lr": 0.001}), [0.001, 0.3])
    worse, better = run(study, trials, tmp_path)
    assert worse.status == better.status == "done"
    assert worse.history[0] == better.history[0]  # it took over the better one's weights
    rates = {epoch["weight_lr"] for epoch in worse.history + better.history}
    assert rates - {0.001, 0.3}
    assert all(0.001 <= rate <= 0.5 for rate in rates)
    kept = list((tmp_path / "study/search/search-001").glob("checkpoint_*"))
    assert len(kept) == 4  # so that what another trial takes over still lies there
    assert run(study, trials, tmp_path, resume=True) == [worse, better]


class FailLater(Callback):
    """Lets a seed fail for good once it has reported its first epoch."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed

    def on_trial_result(self, *args: Any, trial: Any, **info: Any) -> None:
        if trial.trial_id == f"search-{self.seed:03d}":
            (self.folder / f"fail-{self.seed}").touch()


@pytest.mark.slow  # three brackets take 17 trials
def test_trials_that_fail_neither_lose_their_place_nor_leave_others_waiting(
    tmp_path: Path,
) -> None:
    study = stub_study(
        tmp_path,
        epochs=9,
        tune={"scheduler": HYPERBAND, "max_failures": 1},
        resources={"max_concurrent": 1},
    )
    # the third bracket: nine trials, of which three go on to epoch 3, and one of them to 9
    rates = [0.001] * 8 + [0.4, 0.5, 0.3] + [0.001] * 6
    trials = with_rates(stub_trials(study, 17), rates)
    (tmp_path / "kill-9-2").touch()
    outcomes = run(study, trials, tmp_path, callbacks=[FailLater(tmp_path, 10)])
    epochs = [len(outcome.history) for outcome in outcomes]
    assert epochs[:3] == [9, 9, 9]
    assert sorted(epochs[3:8]) == [3, 3, 3, 9, 9]
    assert sorted(epochs[8:10]) == [3, 9]
    assert epochs[11:] == [1] * 6
    assert epochs_run(tmp_path, 9)[:3] == [1, 2, 2]
    assert [o.name for o in outcomes if o.status == "failed"] == ["search-010"]
