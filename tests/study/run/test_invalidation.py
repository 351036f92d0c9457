"""What a second pass leaves, wherever it is cut."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from darts_ray.study import load_study, resume_study, run_study
from darts_ray.study.files.exported import Exported, Int8File
from darts_ray.study.files.record import STAGES, Record, cell_name
from darts_ray.study.run import keeping
from tests.study.fabricated import search_outcome
from tests.study.run.conftest import FakeRay, searches, tiny

ROOT = Path(__file__).parents[3]
FILES = ("best.onnx", "best.pt", "best-int8.onnx")


class KilledError(Exception):
    """Stands for a SIGKILL: nothing of ours catches it."""


def late_cell() -> dict[str, Any]:
    cell: dict[str, Any] = json.loads(search_outcome("x", "-", 1, 2).history[-1]["genotype"])
    return cell


def write_files(folder: Any, entry: Any, *args: Any) -> Exported:
    for name in FILES:
        folder.write_text(name, entry.trial)
    return Exported(
        file="best.onnx", trial=entry.trial, seed=entry.seed, opset=20, tolerance=1e-4,
        max_difference=1e-6, batch_sizes=(1,), checked_on="x", size_bytes=1,
        int8=Int8File(file="best-int8.onnx"),
    )  # fmt: skip


def first_pass(tmp_path: Path, fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> str:
    """A study whose second search fails, although its cell would be the better one."""
    fake.failing = {searches(tiny(tmp_path))[1]}
    judge(fake, monkeypatch)
    folder = run_study(tiny(tmp_path)).folder
    fake.failing = set()
    return folder


def judge(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the second search's cell be the better one, and an export write the trial's name."""
    monkeypatch.setattr("darts_ray.study.run.stages.export_network", write_files)
    late = late_cell()
    fake.scores = lambda spec: 0.99 if spec.config["genotype"] == late else 0.5


def is_consistent(folder: str, record: Record) -> None:
    """What stands together belongs together."""
    assert record.winner is not None
    own = cell_name(record.winner.genotype).replace("cell", "retrain")
    assert all(entry.trial.startswith(own) for entry in record.retrain)
    assert record.export is None or record.export.trial.startswith(own)
    for file in FILES:
        path = Path(folder, file)
        assert not path.exists() or path.read_text().startswith(own)


WRITES = range(1, 14)


@pytest.mark.parametrize("cut", WRITES)
def test_second_pass_that_is_killed_anywhere_ends_like_one_that_is_not(
    cut: int,
    tmp_path: Path,
    ray: FakeRay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = first_pass(tmp_path, ray, monkeypatch)
    written = 0

    def killed(*args: Any) -> None:
        nonlocal written
        written += 1
        if written == cut:
            raise KilledError
        real(*args)

    real = keeping.write_record
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "write_record", killed)
        try:
            resume_study(folder)
        except KilledError:
            is_consistent(folder, load_study(folder).record)
    resume_study(folder)
    study = load_study(folder)
    is_consistent(folder, study.record)
    assert study.winner is not None
    assert study.winner.to_dict() == late_cell()
    assert study.record.export is not None
    assert all(study.record.has_finished(stage) for stage in ("search", "retrain", "export"))


@pytest.mark.parametrize("stage", ["select", "retrain", "export", "report"])
def test_second_pass_whose_driver_is_killed_between_two_stages(
    stage: str, tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = first_pass(tmp_path, ray, monkeypatch)
    driver = [sys.executable, "-m", "tests.study.run.killed", folder, f"{stage}: starts"]
    done = subprocess.run(
        driver, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    record = load_study(folder).record
    is_consistent(folder, record)
    later = STAGES[STAGES.index(stage) :]
    assert not any(record.has_finished(each) for each in later if each != "report")
    said: list[str] = []
    resume_study(folder, on_message=said.append)
    for before in STAGES[: STAGES.index(stage)]:
        if before != "benchmark":  # this space has no table
            assert f"{before}: was done before" in said
    study = load_study(folder)
    is_consistent(folder, study.record)
    assert study.winner is not None
    assert study.winner.to_dict() == late_cell()
    assert study.record.export is not None
    assert Path(folder, "best.onnx").exists()


def test_search_alone_undoes_what_follows_and_keeps_the_scores(
    tmp_path: Path,
    ray: FakeRay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = first_pass(tmp_path, ray, monkeypatch)
    run_study(tiny(tmp_path), stages=("search", "report"), resume=True)
    record = load_study(folder).record
    assert [entry.select_scores for entry in record.search] == [(0.5,), ()]
    assert not record.has_finished("select")
    assert not record.has_finished("export")
    result = resume_study(folder)
    assert result.winner is not None
    assert result.winner.to_dict() == late_cell()
    assert all(entry.select_scores for entry in load_study(folder).record.search)
