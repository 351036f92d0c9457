"""Commands in surroundings that Ray itself does not bear."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from darts_ray.cli import run

REPOSITORY = Path(__file__).parents[2]
CONFIG = str(REPOSITORY / "configs/quickstart.yaml")
COMMAND = [sys.executable, "-m", "darts_ray.cli", "search", CONFIG]
SMALL = ("seeds=[0]", "search.method=darts", "search.epochs=1", "search.max_steps=2")


def command(tmp_path: Path) -> list[str]:
    settings = (*SMALL, "output=runs", f"data.cache_dir={tmp_path}/cache")
    return [*COMMAND, "-q", *(word for value in settings for word in ("--set", value))]


@pytest.mark.slow
def test_a_search_runs_whatever_the_variables_say(tmp_path: Path, short_folder: Path) -> None:
    long = Path("x" * 90)
    (tmp_path / long).mkdir()
    unset = ("RAY_TMPDIR", "RAY_AUTH_MODE")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {
        "PYTHONPATH": str(REPOSITORY),
        "TMPDIR": str(long),
        "HOME": "/proc/1",
        "TUNE_RESULT_DIR": "results",
        "RAY_AIR_LOCAL_CACHE_DIR": "results",
    }
    # what goes to /tmp otherwise
    short = "from pathlib import Path; import darts_ray.tune.cluster.surroundings as s;"
    short += f" s.SHORT_FOLDER = Path({str(short_folder)!r});"
    words = command(tmp_path)[3:]
    short += f" from darts_ray.cli import run; raise SystemExit(run({words!r}))"
    done = subprocess.run(
        [sys.executable, "-c", short],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 trials finished" in done.stderr
    assert "TUNE_RESULT_DIR is set and has no effect" in done.stderr
    assert "RAY_AIR_LOCAL_CACHE_DIR is set and has no effect" in done.stderr
    # a worker that Ray stops inside a callback of Python's own says so on its own lines
    own = [line for line in done.stderr.splitlines() if "(SearchTrainable" not in line]
    assert not [line for line in own if "Traceback" in line], done.stderr
    assert (tmp_path / "runs/quickstart/report.html").exists()
    assert not (tmp_path / "results").exists()


@pytest.mark.slow  # a command of its own, which waits for a cluster
def test_ctrl_c_before_anything_was_started_advises_no_resume(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": str(REPOSITORY)}
    log = tmp_path / "log"
    with log.open("w") as output:
        waiting = subprocess.Popen(
            command(tmp_path), cwd=tmp_path, env=environment, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 200
        while f"Waiting for the Ray cluster at {address}" not in log.read_text():
            assert waiting.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(60) == 130
    finally:
        waiting.kill()
        waiting.wait()
    said = log.read_text()
    assert "Interrupted; nothing had been started." in said
    assert "resume" not in said
    assert not (tmp_path / "runs").exists()


def test_without_a_home_folder_there_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert run(["search", f"{REPOSITORY}/configs/quickstart.yaml"]) == 2
    assert "HOME: is not set" in capsys.readouterr().err
