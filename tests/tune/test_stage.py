from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from darts_ray.errors import ConfigError
from darts_ray.tune import TrialOutcome, run_trials
from darts_ray.tune.reading import read_outcomes, read_progress
from tests.tune.stub import StubRun, StubTrainable, epochs_run, stub_study, stub_trials

pytestmark = pytest.mark.usefixtures("local_ray")


def run(study: Any, trials: Any, storage: Path, **options: Any) -> list[TrialOutcome]:
    options = {"resume": False, **options}
    return run_trials("search", StubTrainable, trials, study, str(storage), **options)


def scores(outcome: TrialOutcome) -> list[float]:
    return [epoch["validation_accuracy"] for epoch in outcome.history]


def undisturbed(seed: int, epochs: int = 4) -> list[float]:
    """What a trial measures when nothing happens to it."""
    study = stub_study(Path("/nowhere"), epochs=epochs)
    alone = StubRun(study.search_config({}, seed), log=False)
    return [alone.run_epoch()["validation_accuracy"] for _ in range(epochs)]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    """A folder with a stage in which one process was killed and one trial failed for good."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "kill-0-3").touch()  # the process is killed in epoch 3
    (folder / "fail-1").touch()
    study = stub_study(folder, tune={"max_failures": 1, "checkpoint_every": 2})
    outcomes = run(study, stub_trials(study, 3), folder / "study")
    (folder / "outcomes.json").write_text(json.dumps([asdict(outcome) for outcome in outcomes]))
    return folder


@pytest.fixture
def copied(broken: Path, tmp_path: Path) -> Path:
    shutil.copytree(broken, tmp_path / "copy")
    return tmp_path / "copy"


def test_broken_trials_leave_the_others_and_their_own_results_as_they_were(broken: Path) -> None:
    outcomes = [TrialOutcome(**o) for o in json.loads((broken / "outcomes.json").read_text())]
    killed, failing, other = outcomes
    assert [outcome.name for outcome in outcomes] == [f"search-00{seed}" for seed in range(3)]
    assert (killed.status, failing.status, other.status) == ("done", "failed", "done")
    assert failing.error == "ValueError: seed 1 always fails"
    assert epochs_run(broken, 1) == [1, 1]  # begun, and retried once
    assert scores(killed) == undisturbed(0)
    assert epochs_run(broken, 0) == [1, 2, 3, 3, 4]  # no more than one interval is repeated
    assert scores(other) == undisturbed(2)
    assert killed.checkpoint == str(broken / "study/search/search-000/checkpoint_000001")
    assert [epoch["done"] for epoch in killed.history] == [False, False, False, True]


def test_processes_are_reused(broken: Path) -> None:
    # one process was killed and one given up after an error, twice: of five, two served again
    logs = [broken / f"epochs-{seed}" for seed in range(3)]
    processes = {line.split()[1] for log in logs for line in log.read_text().splitlines()}
    assert len(processes) <= 4


def test_resume_repeats_what_failed_and_what_is_damaged_and_nothing_else(
    copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search = copied / "study/search"
    for state in search.glob("experiment_state-*.json"):
        state.write_text("{")  # Tune's own state is not needed
    (copied / "fail-1").unlink()
    (search / "search-002/checkpoint_000001/state.pt").write_bytes(b"cut short")
    study = stub_study(copied, tune={"checkpoint_every": 2})
    outcomes = run(study, stub_trials(study, 3), copied / "study", resume=True)

    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    assert [scores(outcome) for outcome in outcomes] == [undisturbed(seed) for seed in range(3)]
    assert epochs_run(copied, 0) == [1, 2, 3, 3, 4]  # as before
    assert epochs_run(copied, 1) == [1, 1, 1, 2, 3, 4]
    assert epochs_run(copied, 2) == [1, 2, 3, 4, 3, 4]
    assert outcomes[2].history[2]["checkpoints_skipped"] == 1
    assert outcomes[2].checkpoint is not None
    assert outcomes[2].checkpoint.endswith("checkpoint_000002")  # not into the damaged folder
    left = sorted(path.name for path in (search / "search-002").glob("checkpoint_*"))
    assert left == ["checkpoint_000000", "checkpoint_000002"]  # which is gone, being replaced
    assert "search-002: its newest 1 checkpoint(s) are damaged" in caplog.text


def test_what_trials_left_is_read_without_running_them(broken: Path, copied: Path) -> None:
    (copied / "study/search/search-002/checkpoint_000001/state.pt").write_bytes(b"cut short")
    trials = stub_trials(stub_study(copied), 4)
    outcomes = read_outcomes("search", trials, str(copied / "study"))
    assert [outcome.status for outcome in outcomes] == ["done", *["unfinished"] * 3]
    assert scores(outcomes[0]) == undisturbed(0)
    # up to the newest whole checkpoint; a failed trial will be tried again
    assert [len(outcome.history) for outcome in outcomes] == [4, 0, 2, 0]
    assert scores(outcomes[2]) == undisturbed(2)[:2]
    assert epochs_run(copied, 2) == epochs_run(broken, 2)


def test_who_watches_sees_what_runs_and_why_a_trial_failed(broken: Path) -> None:
    names = [f"search-00{seed}" for seed in range(3)]
    progress = read_progress("search", names, str(broken / "study"))
    assert [item.ended for item in progress.values()] == [True, False, True]
    assert [item.attempt for item in progress.values()] == ["running", "failed", "running"]
    assert progress["search-001"].error == "ValueError: seed 1 always fails"
    assert [len(item.history) for item in progress.values()] == [4, 0, 4]


def test_a_trial_without_a_whole_checkpoint_starts_again(copied: Path) -> None:
    for state in (copied / "study/search").glob("search-*/checkpoint_*/state.pt"):
        state.write_bytes(b"")
    study = stub_study(copied)
    (outcome,) = run(study, stub_trials(study, 1), copied / "study", resume=True)
    assert scores(outcome) == undisturbed(0)
    assert epochs_run(copied, 0)[-4:] == [1, 2, 3, 4]


def test_concurrency_is_limited(tmp_path: Path) -> None:
    study = stub_study(tmp_path, epochs=2, resources={"max_concurrent": 1})
    outcomes = run(study, stub_trials(study, 2), tmp_path / "study")
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    logs = [(tmp_path / f"epochs-{seed}").read_text().split()[1::2] for seed in range(2)]
    assert len({*logs[0], *logs[1]}) == 1


def test_asha_stops_trials_and_a_resume_leaves_them_stopped(tmp_path: Path) -> None:
    study = stub_study(tmp_path, epochs=8, tune={"scheduler": "asha", "grace_period": 1})
    rates = [0.5, 0.4, 0.001, 0.0005, 0.0001]
    trials = [
        replace(trial, config={**trial.config, "optim": {"weight_lr": rate}})
        for trial, rate in zip(stub_trials(study, 5), rates, strict=True)
    ]
    outcomes = run(study, trials, tmp_path / "study")
    assert all(outcome.status == "done" for outcome in outcomes)
    lengths = [len(outcome.history) for outcome in outcomes]
    assert max(lengths) == 8
    assert min(lengths) < 8
    assert run(study, trials, tmp_path / "study", resume=True) == outcomes


@pytest.mark.slow  # a population has to run side by side
def test_pbt_changes_the_learning_rate_in_mid_run(tmp_path: Path) -> None:
    axis = {"weight_lr": {"loguniform": [0.001, 0.5]}}
    study = stub_study(
        tmp_path,
        epochs=8,
        search={"optim": axis},
        tune={"scheduler": "pbt", "perturbation_interval": 2},
    )
    # trials of a population have to run side by side to be compared
    (tmp_path / "pause").write_text("0.1")
    trials = [
        stub_trials(study, 2, **{"optim.weight_lr": rate})[seed]
        for seed, rate in enumerate((0.001, 0.5))
    ]
    worse, better = run(study, trials, tmp_path / "study")
    rates = {epoch["weight_lr"] for epoch in worse.history + better.history}
    assert rates - {0.001, 0.5}
    # the worse one took over the better one's weights, and went on at another rate
    assert worse.history[0] == better.history[0]
    assert worse.status == better.status == "done"
    final = worse.history[-1]["weight_lr"]
    assert final not in (0.001, 0.5)
    assert final == worse.config["optim"]["weight_lr"]
    assert worse.config["optim"]["weight_lr_min"] <= final


@pytest.mark.slow  # two starts of processes, and one trial at a time
def test_optuna_chooses_the_axes_for_all_seeds_and_resumes(tmp_path: Path) -> None:
    axes = {"optim": {"weight_lr": {"loguniform": [0.001, 0.5]}, "order": {"grid": ["first"]}}}
    study = stub_study(tmp_path, epochs=1, search=axes, tune={"searcher": "optuna"})
    options: dict[str, Any] = {
        "setting_text": lambda values: f"lr={values['optim.weight_lr']:.3g}"
    }
    trials = [
        replace(trial, name=f"search-{draw}_seed-{trial.seed}", setting=f"draw {draw}")
        for draw in range(3)
        for trial in stub_trials(study, 2)
    ]
    outcomes = run(study, trials[:3], tmp_path / "study", **options)
    again = run(study, trials, tmp_path / "study", resume=True, **options)
    assert again[:3] == outcomes
    rates = [outcome.config["optim"]["weight_lr"] for outcome in again]
    assert rates[::2] == rates[1::2]  # a draw is shared by its seeds, also across the resume
    assert len(set(rates)) == 3
    assert all(0.001 <= rate <= 0.5 for rate in rates)
    assert [outcome.setting for outcome in again] == [f"lr={rate:.3g}" for rate in rates]
    assert [outcome.seed for outcome in again] == [0, 1] * 3


def test_a_wrong_configuration_starts_nothing(tmp_path: Path) -> None:
    study = stub_study(tmp_path)
    (trial,) = stub_trials(study, 1)
    wrong = replace(trial, config={**trial.config, "epoch": 3})
    with pytest.raises(ConfigError, match=r"search-000.*Did you mean 'epochs'"):
        run(study, [wrong], tmp_path / "study")
    assert not (tmp_path / "study").exists()
