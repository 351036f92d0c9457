"""A study as a job of a running cluster, submitted from an empty folder."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from darts_ray.study import load_study

REPOSITORY = Path(__file__).parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
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
)


@pytest.fixture
def environment(short_folder: Path) -> dict[str, str]:
    """A user with a token, which the head asks for because it is there when it starts."""
    home = short_folder / "submitter"
    home.mkdir()
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    environment = {**inherited, "HOME": str(home)}
    command = [*RAY, "get-auth-token", "--generate"]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    assert (home / ".ray" / "auth_token").exists()
    return environment


@pytest.fixture
def dashboard(short_folder: Path, tmp_path: Path, environment: dict[str, str]) -> Iterator[str]:
    """Start a head node with two CPUs; return its dashboard's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*RAY, "start", "--head", "--block", "--num-cpus=2"]
    command += [f"--temp-dir={short_folder / 'head'}", f"--dashboard-port={port}", "--port=0"]
    # without a free port the agent that runs jobs gives up, and another Ray may have the usual one
    command += ["--dashboard-agent-listen-port=0"]
    log = tmp_path / "head.log"
    with log.open("w") as output:
        head = psutil.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert head.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        started = head.children(recursive=True)
        head.terminate()
        head.wait(60)
        _, alive = psutil.wait_procs(started, timeout=10)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.mark.slow
def test_a_job_submitted_with_a_token_runs_a_study_to_the_end(
    tmp_path: Path, dashboard: str, environment: dict[str, str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    study = [sys.executable, f"{REPOSITORY}/pipelines/study.py"]
    config = f"{REPOSITORY}/configs/quickstart.yaml"
    words = [w for value in (*SMALL, f"output={tmp_path}/runs") for w in ("--set", value)]
    submit = [*RAY, "job", "submit", "--address", dashboard, "--working-dir", str(empty)]
    without = subprocess.run(
        [*submit, "--", "true"],
        cwd=empty,
        env={**environment, "HOME": str(empty)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert without.returncode != 0
    assert "Missing authentication token" in without.stderr, without.stderr
    done = subprocess.run(
        [*submit, "--", *study, config, *words],
        cwd=empty,
        env={**environment, "RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "succeeded" in done.stdout + done.stderr
    folder = tmp_path / "runs" / "quickstart"
    results = load_study(folder).results()
    assert results.groupby("stage").test_accuracy.count().to_dict() == {"retrain": 1, "search": 0}
    assert (folder / "best.onnx").exists()
    assert list(empty.iterdir()) == []
