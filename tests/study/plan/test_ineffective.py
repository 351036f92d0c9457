"""Options that change nothing are named once by `plan`, and once at the start of every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from darts_ray.config import StudyConfig
from darts_ray.study import plan_study, run_study
from darts_ray.study.plan.ineffective import ineffective_in_study
from tests.study.run.conftest import FakeRay, ray, tiny

__all__ = ["ray"]

ORDERS = {"grid": ["first", "unrolled"]}


def searching(tmp_path: Path, optim: dict[str, Any], **sections: Any) -> StudyConfig:
    search = tiny(tmp_path).search
    assert search is not None
    return tiny(tmp_path, search={**search, "optim": optim}, **sections)


@pytest.mark.parametrize(
    ("optim", "starts"),
    [
        ({"xi": 0.1}, ["search.optim.xi: has no effect with optim.order: first"]),
        ({"xi": 0.1, "order": ORDERS}, []),  # it has one in the unrolled searches
        (
            {"xi": {"grid": [0.1, 0.2]}, "order": ORDERS},
            ["search.optim.xi: has no effect with optim.order: first, which makes 2 of 4"],
        ),
    ],
)
def test_an_option_of_the_searches(
    optim: dict[str, Any], starts: list[str], tmp_path: Path
) -> None:
    lines = ineffective_in_study(searching(tmp_path, optim))
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_options_of_the_other_sections(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    assert config.retrain is not None
    retrain = {
        **config.retrain.model_dump(),
        "optim": {"schedule": "constant", "lr_min": 0.001},
        "sync_batch_norm": True,
    }
    changed = tiny(
        tmp_path,
        retrain=retrain,
        tune={"grace_period": 2, "perturbation_interval": 3},
        export={"max_accuracy_drop": 0.1},
    )
    assert [line.partition(":")[0] for line in ineffective_in_study(changed)] == [
        "tune.grace_period",
        "tune.perturbation_interval",
        "retrain.sync_batch_norm",
        "export.max_accuracy_drop",
        "retrain.optim.lr_min",
    ]
    assert (
        ineffective_in_study(tiny(tmp_path, tune={"scheduler": "asha", "grace_period": 2})) == []
    )


def test_plan_and_every_run_say_it_once(tmp_path: Path, ray: FakeRay) -> None:
    config = searching(tmp_path, {"xi": 0.1})
    line = "Warning: search.optim.xi: has no effect with optim.order: first."
    assert plan_study(config).notes.count(line) == 1
    for resume in (False, True):
        said: list[str] = []
        run_study(config, resume=resume, on_message=said.append)
        assert said.count(line) == 1
