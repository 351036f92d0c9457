"""The studies below a folder, one line each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from darts_ray.cli import run
from darts_ray.errors import StudyError
from darts_ray.study import list_studies
from tests.study.fabricated import finished_image_study, finished_text_study


@pytest.fixture
def output(tmp_path: Path) -> Path:
    finished_image_study(tmp_path / "runs")
    finished_text_study(tmp_path / "runs" / "texts")
    (tmp_path / "runs" / "nothing").mkdir()
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "study.yaml").write_text("name: [")
    return tmp_path / "runs"


def test_one_line_each(output: Path) -> None:
    lines = {line.name: line for line in list_studies(output)}
    assert list(lines) == ["broken", "made-up", "texts/made-up-text"]
    assert lines["broken"].state == "unreadable"
    assert "study.yaml" in str(lines["broken"].error)
    image = lines["made-up"]
    # five of six searches, ten short trainings of distinct cells, two retrainings
    assert (image.done, image.trials, image.failed) == (17, 18, 1)
    # of 0.97 and 0.98
    assert (image.test_mean, image.test_std) == pytest.approx((0.975, 0.01 / 2**0.5))
    assert lines["texts/made-up-text"].test_mean is None


def test_the_command(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", str(output), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert lines[0]["state"] == "unreadable"
    assert run(["list", str(output)]) == 0
    assert "made-up" in capsys.readouterr().out


def test_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StudyError, match="no such folder"):
        list_studies(tmp_path / "absent")
    assert run(["list", str(tmp_path / "absent")]) == 2
