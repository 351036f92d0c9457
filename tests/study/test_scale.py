"""What the study layer costs per trial; slow, and read by a human."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from darts_ray.config import ResourcesSection
from darts_ray.study import load_study, run_study
from darts_ray.study.run import stages
from darts_ray.tune import start_ray
from tests.tune.stub import StubTrainable, stub_study

TRIALS = 200

pytestmark = [
    pytest.mark.slow,
    # Ray leaves its helper processes and their sockets to the end of the interpreter.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
]


def test_200_trials_that_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stages, "SearchTrainable", StubTrainable)
    study = stub_study(
        tmp_path,
        epochs=2,
        output=str(tmp_path / "runs"),
        seeds=list(range(TRIALS)),
        search={"batch_size": 32},
    )
    driver = psutil.Process()
    with start_ray(ResourcesSection()):
        before = driver.memory_info().rss
        started = time.monotonic()
        result = run_study(study, quiet=True)
        seconds = time.monotonic() - started
        memory = driver.memory_info().rss - before
    folder = Path(result.folder)
    results = load_study(result.folder).results()
    sizes = {
        name: (folder / name).stat().st_size / 1024
        for name in ("results.parquet", "alphas.parquet", "genotypes.json", "report.html")
    }
    with capsys.disabled():
        print(
            f"\n{TRIALS} trials: {seconds:.1f} s, {seconds / TRIALS:.3f} s each,"
            f" driver +{memory / 2**20:.0f} MiB, "
            + ", ".join(f"{name} {size:.0f} KiB" for name, size in sizes.items())
        )
    assert results.groupby("trial").size().tolist() == [2] * TRIALS
    assert memory < 500 * 2**20
