"""A disk that fills up in mid-run and is emptied again."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.tune import Callback

from darts_ray.errors import StorageError
from darts_ray.tune import run_trials
from tests.tune.stub import StubRun, StubTrainable, epochs_run, stub_study, stub_trials

SEEDS, EPOCHS = 3, 6


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "darts-ray-test", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(ballast: Path) -> None:
    """Write a file that leaves no byte of its disk free."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


class FillDisk(Callback):
    """Fills the disk when the first trial reports its third epoch."""

    def __init__(self, disk: Path) -> None:
        self.ballast = disk / "ballast"

    def on_trial_result(self, result: dict[str, Any], **info: Any) -> None:
        if result["epoch"] == 3 and not self.ballast.exists():
            fill(self.ballast)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def test_a_full_disk_stops_a_stage_that_goes_on_when_there_is_room(
    tmp_path: Path, small_disk: Path, local_ray: None
) -> None:
    (tmp_path / "pause").write_text("0.2")
    study = stub_study(tmp_path, epochs=EPOCHS, tune={"max_failures": 1})
    storage = str(small_disk / "study")
    trials = stub_trials(study, SEEDS)
    filler = FillDisk(small_disk)
    with pytest.raises(StorageError, match=f"{storage} is full.*darts-ray resume {storage}"):
        run_trials(
            "search", StubTrainable, trials, study, storage, resume=False, callbacks=[filler]
        )
    filler.ballast.unlink()
    (tmp_path / "pause").unlink()
    outcomes = run_trials("search", StubTrainable, trials, study, storage, resume=True)
    for seed, outcome in enumerate(outcomes):
        assert outcome.status == "done", outcome.error
        run = StubRun(study.search_config({}, seed), log=False)
        expected = [run.run_epoch()["validation_accuracy"] for _ in range(EPOCHS)]
        assert [epoch["validation_accuracy"] for epoch in outcome.history] == expected
        # the epoch that could not be saved: once again at the retry, once again at the resume
        assert len(epochs_run(tmp_path, seed)) <= EPOCHS + 2


class ElsewhereTrainable(StubTrainable):
    """Puts its checkpoints together on another disk, whose place stands beside its logs."""

    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config)
        folder = Path(config["data"]["cache_dir"])
        tempfile.tempdir = (folder / "temporary").read_text()


@pytest.mark.slow
def test_a_full_temporary_disk_is_told_and_no_failure_of_a_trial(
    tmp_path: Path, small_disk: Path, local_ray: None
) -> None:
    (tmp_path / "temporary").write_text(str(small_disk))
    study = stub_study(tmp_path, epochs=EPOCHS, tune={"max_failures": 2})
    trials = stub_trials(study, 1)
    storage = str(tmp_path / "study")
    filler = FillDisk(small_disk)
    with pytest.raises(StorageError, match=rf"temporary disk of .* holds {small_disk}.*TMPDIR"):
        run_trials(
            "search", ElsewhereTrainable, trials, study, storage, resume=False, callbacks=[filler]
        )
    begun = epochs_run(tmp_path, 0)
    assert begun == list(range(1, len(begun) + 1))  # none was tried again
    filler.ballast.unlink()
    (outcome,) = run_trials("search", StubTrainable, trials, study, storage, resume=True)
    assert outcome.status == "done"
    assert len(outcome.history) == EPOCHS


def test_a_checkpoint_that_finds_no_room_says_so(small_disk: Path) -> None:
    """PyTorch, given a path, calls it "unexpected pos", and so it counted as a broken trial."""
    run = StubTrainable(config=stub_study(small_disk).search_config({}, 0).model_dump())
    fill(small_disk / "ballast")
    with pytest.raises(OSError, match="No space left on device"):
        run.save_checkpoint(str(small_disk))
