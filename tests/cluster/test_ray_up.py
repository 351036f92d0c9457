"""The page's cluster commands, carried out: `pytest -n 0 -m slow tests/cluster`.

Needs an ssh client and server (Debian: openssh-server) and rsync, and nothing but loopback.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from darts_ray.study import load_study
from tests.cluster.local_cluster import REPOSITORY, SSHD, LocalCluster, local_cluster
from tests.cluster.page import page_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        SSHD is None or shutil.which("rsync") is None, reason="needs openssh-server and rsync"
    ),
]
SMALL = (
    "seeds=[0]",
    "retrain.seeds=[0]",
    "search.method=darts",
    "search.epochs=1",
    "search.max_steps=2",
    "select=null",
    "retrain.epochs=1",
    "retrain.max_steps=2",
    "data.max_train=128",
    "data.max_test=64",
    "resources.workers_per_trial=2",
)


def run(cluster: LocalCluster, words: Sequence[str]) -> str:
    """Run a command of the page in a checkout; return what it says."""
    done = subprocess.run(
        words,
        cwd=REPOSITORY,
        env=cluster.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def adapted(words: Sequence[str], places: dict[str, str], name: str) -> list[str]:
    """Put this machine's places and a small study into a command; its form stays."""
    used = {old for old in places for word in words if old in word}
    assert used == set(places), "the page's command has changed"
    for old, new in places.items():
        words = [word.replace(old, new) for word in words]
    return [*words, *(w for value in (*SMALL, f"name={name}") for w in ("--set", value))]


@pytest.fixture
def cluster(short_folder: Path) -> Iterator[LocalCluster]:
    with local_cluster(short_folder / "up") as cluster:
        yield cluster


def test_up_submit_job_submit_down(cluster: LocalCluster, tmp_path: Path) -> None:
    run(cluster, ["ray", "up", "-y", "--no-config-cache", str(cluster.config)])
    config = {"configs/cluster/ray-cluster.yaml": str(cluster.config)}
    small = {"cifar10/study.yaml": "quickstart.yaml"}
    output = str(tmp_path / "runs")

    said = run(
        cluster,
        adapted(
            page_command("ray submit"),
            {**config, **small, "/mnt/shared/runs": output},
            "submitted",
        ),
    )
    (tmp_path / "ray-submit-output.txt").write_text(said)
    assert "Study folder:" in said
    check_study(tmp_path / "runs" / "submitted")

    words = page_command("ray job submit")
    at = words.index("tracking.uri=http://mlflow.example.com")
    words[at] = "tracking.enabled=false"  # there is no such server here
    address = ["--address", cluster.dashboard]
    words = [*words[:3], *address, *words[3:]]
    said = run(cluster, adapted(words, {**small, "s3://bucket/runs": output}, "job"))
    assert "succeeded" in said
    check_study(tmp_path / "runs" / "job")

    run(cluster, ["ray", "down", "-y", str(cluster.config)])
    left = [p for p in psutil.process_iter(["environ"]) if _home(p) == str(cluster.home)]
    assert left == []


def _home(process: psutil.Process) -> str | None:
    environ = process.info["environ"]
    return environ.get("HOME") if environ else None


def check_study(folder: Path) -> None:
    results = load_study(folder).results()
    assert results.groupby("stage").test_accuracy.count().to_dict() == {"retrain": 1, "search": 0}
    assert (folder / "best.onnx").exists()
