"""The studies below a folder, one line each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from darts_ray.cli import run
from darts_ray.errors import StudyError
from darts_ray.study import list_studies
from tests.study.fabricated import (
    finished_image_study,
    finished_text_study,
    image_config,
    search_outcome,
    write_study,
)


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


def test_verdict_of_a_study_of_settings(tmp_path: Path) -> None:
    def line(seeds: int, better: float, **changes: Any) -> str | None:
        config = image_config(
            tmp_path / f"{seeds}-{better}-{len(changes)}",
            seeds=list(range(seeds)),
            search={"epochs": 2, "optim": {"xi": {"grid": [0.1, 0.2]}, "order": "unrolled"}},
            select=None, retrain=None, export=None, **changes,
        )  # fmt: skip
        outcomes = [search_outcome(f"{x}-{s}", f"xi={x}", s, 2) for x in (0.1, 0.2)
                    for s in range(seeds)]  # fmt: skip
        for number, outcome in enumerate(outcomes):
            gain = better if number >= seeds else 0.0
            # without a gain the differences are + - + - + -
            gain += 0.01 * (-1) ** number if not better and number >= seeds else 0.0
            outcome.history[-1]["validation_accuracy"] = 0.5 + 0.01 * (number % seeds) + gain
        (found,) = list_studies(write_study(config, outcomes).uri)
        return found.verdict

    # all of six differences positive: p = 2 / 2^6
    assert line(6, 0.2) == "xi=0.2 is best (p = 0.031)"
    assert str(line(6, 0.0)).endswith("leads; no difference shown")
    assert line(3, 0.2) == "xi=0.2 leads; too few seeds for a test"


def test_one_setting_has_no_verdict(output: Path) -> None:
    lines = {line.name: line for line in list_studies(output)}
    assert lines["texts/made-up-text"].verdict is None
    assert "leads" in str(lines["made-up"].verdict)


def test_the_command(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", str(output), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert lines[0]["state"] == "unreadable"
    assert run(["list", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "made-up" in printed
    assert "leads; too few seeds for a test" in printed


def test_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StudyError, match="no such folder"):
        list_studies(tmp_path / "absent")
    assert run(["list", str(tmp_path / "absent")]) == 2
