"""A study's state as its folder shows it, at every point of its way."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from darts_ray.cli import run
from darts_ray.config import StudyConfig
from darts_ray.errors import StudyError
from darts_ray.location import child_location
from darts_ray.study import StudyStatus, list_studies, study_status
from darts_ray.study.files.folder import HOLDER_FILE, LOCK_FILE, StudyFolder
from darts_ray.study.files.holder import Holder
from darts_ray.study.files.record import Record, StageState
from darts_ray.study.files.study import (
    provenance_now,
    resolve_paths,
    write_record,
    write_study_file,
)
from darts_ray.study.plan.settings import search_trials
from darts_ray.tune.checkpoints import CONFIG, HISTORY, seal
from darts_ray.tune.trials.folder import ATTEMPT, ENDING
from tests.study.fabricated import finished_image_study, image_config

DEAD = Holder("t", socket.gethostname(), 2**22 + 1, 0.0)
ELSEWHERE = Holder("t", "elsewhere", 1, 0.0)


def begun_study(output: Path) -> tuple[StudyFolder, StudyConfig]:
    """A study whose search stage has begun: two settings, three seeds, eight epochs each."""
    config = resolve_paths(image_config(output))
    folder = StudyFolder.of(config)
    write_study_file(folder, config, provenance_now("abc"))
    write_record(folder, Record(stages={"search": StageState(num_trials=6)}))
    return folder, config


def write_trial(
    folder: StudyFolder, name: str, epochs: int, *, of: int = 8, note: Any = None
) -> Path:
    """Write what a search leaves after some epochs."""
    place = Path(folder.child(f"search/{name}"))
    place.mkdir(parents=True, exist_ok=True)
    if note is not None:
        (place / ATTEMPT).write_text(json.dumps(note))
    if epochs:
        checkpoint = place / f"checkpoint_{epochs - 1:06d}"
        checkpoint.mkdir()
        history = [
            {"epoch": e, "validation_accuracy": e / 10, "seconds": 2.0, "done": e == of}
            for e in range(1, epochs + 1)
        ]
        (checkpoint / HISTORY).write_text(json.dumps(history))
        (checkpoint / CONFIG).write_text("{}")
        seal(checkpoint)
    return place


def hold(folder: StudyFolder, holder: Holder | None) -> None:
    """Leave a lock as a driver would."""
    Path(folder.child(LOCK_FILE)).touch()
    if holder is not None:
        folder.write_text(HOLDER_FILE, holder.to_json())


def states(seen: StudyStatus, stage: str = "search") -> list[str]:
    trials = next(item for item in seen.stages if item.name == stage).trials
    return [trial.state for trial in trials]


def names(config: StudyConfig) -> Sequence[str]:
    return [trial.name for trial in search_trials(config)]


def test_nothing_has_begun(tmp_path: Path) -> None:
    config = resolve_paths(image_config(tmp_path))
    folder = StudyFolder.of(config)
    write_study_file(folder, config, provenance_now("abc"))
    seen = study_status(str(folder))
    assert seen.state == "not started"
    assert states(seen) == ["waiting"] * 6
    assert [stage.name for stage in seen.stages] == [
        "search", "select", "retrain", "export", "report",
    ]  # fmt: skip


def test_running(tmp_path: Path) -> None:
    folder, config = begun_study(tmp_path)
    with folder.lock():
        done, stopped, running, first_epoch, failed, _ = names(config)
        write_trial(folder, done, 8, note={"state": "running"})
        place = write_trial(folder, stopped, 4, note={"state": "running"})
        (place / ENDING).write_text(json.dumps({"stopped_after": 4}))
        write_trial(folder, running, 3, note={"state": "running"})
        write_trial(folder, first_epoch, 0, note={"state": "running"})
        write_trial(folder, failed, 2, note={"state": "failed", "error": "Boom: a\nb"})
        seen = study_status(str(folder))
    assert seen.state == "running"
    assert seen.driver.state == "working"
    assert (seen.driver.host, seen.driver.pid) == (socket.gethostname(), os.getpid())
    search = seen.stages[0]
    assert search.state == "running"
    assert states(seen) == ["done", "done", "running", "running", "failed", "waiting"]
    trial = search.trials[2]
    assert (trial.epoch, trial.epochs, trial.score) == (3, 8, pytest.approx(0.3))
    assert trial.score_name == "validation_accuracy"
    assert [(stage, t.name, t.error) for stage, t in seen.failed] == [
        ("search", failed, "Boom: a")
    ]
    # 5 + 8 + 8 epochs of 2 s are left, two trials at a time
    assert search.seconds_left == pytest.approx(21 * 2 / 2)
    assert seen.driver.last_sign == pytest.approx(time.time(), abs=60)
    assert seen.stages[1].state == "not started"


def test_what_an_earlier_driver_left_waits_until_this_one_takes_it_up(tmp_path: Path) -> None:
    folder, config = begun_study(tmp_path)
    interrupted, failed, taken_up = names(config)[:3]
    write_trial(folder, interrupted, 2, note={"state": "running"})
    write_trial(folder, failed, 2, note={"state": "failed", "error": "Boom"})
    for path in (tmp_path / "made-up" / "search").rglob("*"):
        os.utime(path, (1e9, 1e9))
    write_trial(folder, taken_up, 2, note={"state": "running"})
    with folder.lock():
        os.utime(folder.child(HOLDER_FILE), (1e9 + 1, 1e9 + 1))
        assert states(study_status(str(folder)))[:3] == ["waiting", "waiting", "running"]


@pytest.mark.parametrize(
    ("holder", "driver"), [(DEAD, "died"), (None, "none")], ids=["killed", "interrupted"]
)
def test_stopped(tmp_path: Path, holder: Holder | None, driver: str) -> None:
    folder, config = begun_study(tmp_path)
    if holder is not None:
        hold(folder, holder)
    done, half, first_epoch, failed = names(config)[:4]
    write_trial(folder, done, 8)
    write_trial(folder, half, 3, note={"state": "running"})
    write_trial(folder, first_epoch, 0, note={"state": "running"})
    write_trial(folder, failed, 0, note={"state": "failed", "error": "Boom"})
    seen = study_status(str(folder))
    assert (seen.state, seen.driver.state, seen.stages[0].state) == ("stopped", driver, "stopped")
    assert states(seen)[:4] == ["done", "interrupted", "interrupted", "failed"]
    assert seen.stages[0].seconds_left is None


@pytest.mark.parametrize("holder", [ELSEWHERE, None], ids=["elsewhere", "of version 0.1"])
def test_a_driver_that_cannot_be_asked_is_judged_by_its_files(
    tmp_path: Path, holder: Holder | None
) -> None:
    folder, config = begun_study(tmp_path)
    hold(folder, holder)
    write_trial(folder, names(config)[0], 3)
    assert study_status(str(folder)).driver.state == "unknown"
    assert states(study_status(str(folder)))[0] == "running"
    for path in (tmp_path / "made-up").rglob("*"):
        os.utime(path, (1e9, 1e9))
    seen = study_status(str(folder))
    assert (seen.driver.state, seen.state) == ("silent", "running")
    assert seen.driver.last_sign == pytest.approx(1e9)


def test_finished_with_a_failure(tmp_path: Path) -> None:
    folder = finished_image_study(tmp_path)
    seen = study_status(str(folder))
    counts = {stage.name: (stage.state, stage.count("done")) for stage in seen.stages}
    assert counts["search"] == ("done", 5)
    assert counts["retrain"] == ("done", 2)
    assert counts["export"] == ("not started", 0)  # the fabricated record has no export stage
    (failure,) = seen.failed
    assert failure[1].error == "RuntimeError: <boom>"
    assert seen.test_scores == {0: pytest.approx(0.97), 1: pytest.approx(0.98)}
    assert seen.winner is not None


def test_the_command_says_what_is_wrong_and_what_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    folder, config = begun_study(tmp_path)
    hold(folder, DEAD)
    write_trial(folder, names(config)[0], 3, note={"state": "running"})
    write_trial(folder, names(config)[1], 0, note={"state": "failed", "error": "[Boom] x"})
    assert run(["status", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "has died" in printed
    assert "3 of 8" in printed
    assert "30.00 %" in printed
    assert "[Boom] x" in printed
    assert f"Next: darts-ray resume {folder}" in printed
    assert run(["status", str(folder), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["stages"][0]["count"] == {
        "done": 0, "running": 0, "interrupted": 1, "failed": 1, "waiting": 4,
    }  # fmt: skip


def test_watching_ends_with_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config = begun_study(tmp_path)
    write_trial(folder, names(config)[0], 3, note={"state": "running"})
    lock = folder.lock()
    lock.__enter__()
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            lock.__exit__(None, None, None)

    monkeypatch.setattr("darts_ray.cli.commands.watching.time.sleep", sleep)
    assert run(["status", str(folder), "--watch", "--every", "7", "--json"]) == 0
    lines = [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["running", "running", "stopped"]
    assert looks == [7, 7]


def test_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StudyError, match="holds no study"):
        study_status(tmp_path)
    assert run(["status", str(tmp_path)]) == 2
    assert "holds no study" in capsys.readouterr().err


def test_reading_needs_neither_ray_nor_torch(tmp_path: Path) -> None:
    place = str(finished_image_study(tmp_path))
    program = f"""
import sys
from darts_ray.cli import run

def imported():
    return [name for name in ("ray", "torch", "mlflow", "onnx") if name in sys.modules]

assert run(["status", {place!r}]) == 0
assert run(["list", {str(tmp_path)!r}]) == 0
assert imported() == [], imported()
assert run(["report", {place!r}]) == 0
assert "ray" not in imported()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_on_an_object_store(tmp_path: Path, bucket: str) -> None:
    """The lease tells who works, and its age whether that one lives."""
    local, config = begun_study(tmp_path)
    first = names(config)[0]
    write_trial(local, first, 3, note={"state": "running"})
    folder = StudyFolder(child_location(bucket, "runs/made-up"))
    for path in local.modified():
        folder.write_bytes(path, local.read_bytes(path))
    assert states(study_status(folder.uri))[0] == "interrupted"
    with folder.lock():
        # taken up: the note is newer than the process that holds the lease
        assert states(study_status(folder.uri))[0] == "running"
        assert study_status(folder.uri).driver.pid == os.getpid()
    folder.write_text(LOCK_FILE, ELSEWHERE.to_json())
    assert study_status(folder.uri).driver.state == "working"
    (line,) = list_studies(child_location(bucket, "runs"))
    assert (line.name, line.state) == ("made-up", "running")
