"""A storage that fails is no damage: nothing begins anew that could not be read."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest

from darts_ray import location
from darts_ray.errors import StorageError
from darts_ray.tune import SearchTrainable, run_trials
from darts_ray.tune.checkpoints import DamagedCheckpointError, check_sealed, seal
from darts_ray.tune.trials.folder import TrialFolder
from tests.tune.stub import StubTrainable, epochs_run, stub_study, stub_trials


class FailingStorage(pyarrow.fs.FileSystemHandler):
    """The local disk, of which some files cannot be read for a while.

    Args:
        name: end of the paths that fail.
        times: how often they fail.
        where: what fails, `open` or `info`.
    """

    def __init__(self, name: str, times: int, where: str = "open") -> None:
        self._disk = pyarrow.fs.LocalFileSystem()
        self._name, self._where, self.times = name, where, times

    def _fail(self, where: str, path: str) -> None:
        if where == self._where and path.endswith(self._name) and self.times:
            self.times -= 1
            raise OSError(errno.ESTALE, f"Stale file handle: {path}")

    def get_type_name(self) -> str:
        return "failing"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> Any:
        for path in paths:
            self._fail("info", path)
        return self._disk.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        self._fail("info", selector.base_dir)
        return self._disk.get_file_info(selector)

    def open_input_stream(self, path: str) -> Any:
        self._fail("open", path)
        return self._disk.open_input_stream(path)

    def open_input_file(self, path: str) -> Any:
        self._fail("open", path)
        return self._disk.open_input_file(path)

    def _unused(self, *arguments: Any) -> Any:
        raise NotImplementedError

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _unused
    delete_file = move = copy_file = open_output_stream = open_append_stream = _unused


def failing(name: str, times: int, where: str = "open") -> pyarrow.fs.FileSystem:
    return pyarrow.fs.PyFileSystem(FailingStorage(name, times, where))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location, "WAITS_S", (0.0, 0.0))


@pytest.fixture
def trial_folder(tmp_path: Path) -> Path:
    """A trial that ended after one epoch."""
    folder = tmp_path / "search-000" / "checkpoint_000000"
    folder.mkdir(parents=True)
    (folder / "history.json").write_text('[{"epoch": 1, "done": true}]')
    (folder / "config.json").write_text("{}")
    (folder / "state.pt").write_bytes(b"state")
    seal(folder)
    return folder.parent


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("manifest.json", "open"),
        ("history.json", "open"),
        ("config.json", "open"),
        ("state.pt", "info"),
        ("search-000", "info"),
        ("ending.json", "open"),
    ],
)
def test_an_outage_while_a_trial_is_read_is_no_damage(
    name: str, where: str, trial_folder: Path
) -> None:
    folder = TrialFolder.read(failing(name, 2, where), str(trial_folder))
    assert folder.ended
    assert folder.broken == ()
    with pytest.raises(StorageError, match=f"{name}: the storage fails: .*Stale file handle"):
        TrialFolder.read(failing(name, -1, where), str(trial_folder))


def test_missing_and_cut_files_are_damage(trial_folder: Path) -> None:
    checkpoint = trial_folder / "checkpoint_000000"
    (checkpoint / "state.pt").write_bytes(b"sta")
    disk = pyarrow.fs.LocalFileSystem()
    with pytest.raises(DamagedCheckpointError, match="has 3 bytes instead of 5"):
        check_sealed(disk, str(checkpoint))
    (checkpoint / "state.pt").unlink()
    folder = TrialFolder.read(disk, str(trial_folder))
    assert (folder.ended, folder.broken) == (False, (str(checkpoint),))


def test_a_run_that_cannot_read_its_checkpoint_does_not_start_again(tmp_path: Path) -> None:
    from ray import tune

    config: dict[str, Any] = {
        "data": {"source": "digits", "max_train": 64},
        "network": {"channels": 2, "layers": 2},
        "epochs": 2,
        "batch_size": 16,
        "max_steps": 1,
    }
    run = SearchTrainable(config=dict(config))
    run.train()
    run.save(str(tmp_path / "checkpoint_000000"))
    resumed = SearchTrainable(config=dict(config))
    lost = tune.Checkpoint(
        str(tmp_path / "checkpoint_000000"), filesystem=failing("manifest.json", -1)
    )
    with pytest.raises(StorageError):
        resumed.restore(lost)
    back = tune.Checkpoint(
        str(tmp_path / "checkpoint_000000"), filesystem=failing("manifest.json", 1)
    )
    resumed.restore(back)
    assert resumed.train()["epoch"] == 2


class CannotRestore(StubTrainable):
    def restore(self, checkpoint_path: Any) -> None:
        raise StorageError("s3://bucket/x: the storage fails: Access Denied.")


def test_a_stage_ends_with_one_error_and_repeats_nothing(tmp_path: Path, local_ray: None) -> None:
    study = stub_study(tmp_path, tune={"max_failures": 2})
    (tmp_path / "kill-0-3").touch()
    trials = stub_trials(study, 1)
    with pytest.raises(StorageError, match=r"search-000: s3://bucket/x: .*Access Denied"):
        run_trials("search", CannotRestore, trials, study, str(tmp_path / "s"), resume=False)
    assert epochs_run(tmp_path, 0) == [1, 2, 3]
    (outcome,) = run_trials(
        "search", StubTrainable, trials, study, str(tmp_path / "s"), resume=True
    )
    assert outcome.status == "done"
    assert epochs_run(tmp_path, 0) == [1, 2, 3, 3, 4]
