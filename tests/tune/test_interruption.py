from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from darts_ray.tune import run_trials
from tests.tune.stub import StubRun, StubTrainable, epochs_run, stub_study, stub_trials

REPOSITORY = Path(__file__).parents[2]


def resume(folder: Path) -> list[list[float]]:
    study = stub_study(folder)
    outcomes = run_trials(
        "search",
        StubTrainable,
        stub_trials(study, 3),
        study,
        str(folder / "study"),
        resume=True,
    )
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    return [[epoch["validation_accuracy"] for epoch in o.history] for o in outcomes]


def undisturbed(folder: Path) -> list[list[float]]:
    runs = [StubRun(stub_study(folder).search_config({}, seed), log=False) for seed in range(3)]
    return [[run.run_epoch()["validation_accuracy"] for _ in range(run.epochs)] for run in runs]


def running(folder: Path, seeds: range, epochs: int) -> bool:
    return all(len(epochs_run(folder, seed)) >= epochs for seed in seeds)


def descendants(driver: subprocess.Popen[bytes]) -> tuple[list[psutil.Process], ...]:
    """Return the processes that must end with their driver, and Ray's agents, which linger."""
    processes: tuple[list[psutil.Process], list[psutil.Process]] = [], []
    for process in psutil.Process(driver.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            processes["Agent" in process.name()].append(process)
    return processes


@pytest.mark.slow  # a driver with a Ray of its own; test_trainables.py kills a trial's process
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stage_goes_on_after_its_driver_was_interrupted(
    how: signal.Signals, tmp_path: Path, local_ray: None
) -> None:
    (tmp_path / "pause").write_text("0.5")
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.tune.driver", str(tmp_path)],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 300
        while not running(tmp_path, range(2), 3):
            assert time.monotonic() < deadline
            assert driver.poll() is None
            time.sleep(0.05)
        workers, agents = descendants(driver)
        driver.send_signal(how)
        code = driver.wait(timeout=120)
        assert code == (-signal.SIGKILL if how == signal.SIGKILL else 0)
        assert (tmp_path / "interrupted").exists() == (how == signal.SIGINT)
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive
        for process in agents:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    finally:
        driver.kill()
        driver.wait()
    before = [epochs_run(tmp_path, seed) for seed in range(3)]
    (tmp_path / "pause").unlink()

    assert resume(tmp_path) == undisturbed(tmp_path)
    for seed, epochs in enumerate(before):
        again = epochs_run(tmp_path, seed)[len(epochs) :]
        repeated = set(epochs) & set(again)
        assert len(repeated) <= 2  # the epoch in progress, and one whose checkpoint was

    # what is finished stays finished
    logs = [epochs_run(tmp_path, seed) for seed in range(3)]
    assert resume(tmp_path) == undisturbed(tmp_path)
    assert [epochs_run(tmp_path, seed) for seed in range(3)] == logs
