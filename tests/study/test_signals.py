"""A study whose driver or cluster is killed, as a user sees it; slow."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from darts_ray.config import to_yaml
from darts_ray.study import load_study
from darts_ray.study.files.folder import StudyFolder
from tests.study.run.conftest import tiny

pytestmark = pytest.mark.slow

START_S = 150.0
"""How long a busy machine may take to come to the point that a test waits for."""
CONTROL_SERVICE_S = 90.0
"""Within this time a lost control service is told; Ray itself gives it 60 s to come back."""


class Driver:
    """A `darts-ray` process of its own, and what it has said so far."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._log = (folder / "said").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "darts_ray.cli", *words],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
        self._said = folder / "said"
        self._children: dict[int, psutil.Process] = {}

    @property
    def said(self) -> str:
        return self._said.read_text()

    def children(self) -> list[psutil.Process]:
        """Return every process below the driver that was ever seen, the driver alive or not."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self._children[child.pid] = child
        return list(self._children.values())

    def wait_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while not reached():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            self.children()
            time.sleep(0.1)

    def end(self, within: float) -> int:
        """Return the exit code."""
        return self.process.wait(timeout=within)

    def clean(self) -> None:
        children = self.children()
        self.process.kill()
        self.process.wait()
        self._log.close()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    drivers = []

    def start(*words: str) -> Driver:
        drivers.append(Driver(tmp_path, *words))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.clean()


def long_study(folder: Path) -> Path:
    """A configuration whose searches last until somebody ends them; returns its file."""
    search = {**(tiny(folder).search or {}), "epochs": 100_000}
    path = folder / "study.yaml"
    path.write_text(to_yaml(tiny(folder, search=search, export=None)))
    return path


def has_checkpoint(folder: Path) -> bool:
    return any(folder.glob("tiny/search/*/checkpoint_*/manifest.json"))


def test_sigterm_ends_a_study_in_order(tmp_path: Path, run: Callable[..., Driver]) -> None:
    driver = run("study", str(long_study(tmp_path)), "--quiet")
    driver.wait_until(lambda: has_checkpoint(tmp_path))
    workers = [child for child in driver.children() if "ray::" in " ".join(_command(child))]
    driver.process.send_signal(signal.SIGTERM)
    assert driver.end(within=90) == 143, driver.said
    said = driver.said
    folder = tmp_path / "tiny"
    assert f"Terminated; what is finished is kept. Go on with:  darts-ray resume {folder}" in said
    assert "Traceback" not in said
    assert "Fatal" not in said
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    record = load_study(folder).record
    assert not record.has_finished("search")
    assert not (folder / ".driver.lock").exists() or _is_free(folder)


def test_a_lost_control_service_is_told_once_and_in_time(
    tmp_path: Path, run: Callable[..., Driver]
) -> None:
    driver = run("study", str(long_study(tmp_path)), "--quiet")
    driver.wait_until(lambda: has_checkpoint(tmp_path))
    (service,) = (c for c in driver.children() if "gcs_server" in " ".join(_command(c)[:1]))
    service.kill()
    assert driver.end(within=CONTROL_SERVICE_S) == 1, driver.said
    said = driver.said
    assert said.count("control service") >= 1
    assert said.count("is gone, so the study stops here") == 1
    assert f"darts-ray resume {tmp_path / 'tiny'}" in said
    assert "Traceback" not in said
    assert "*** SIG" not in said  # no stack dump of Ray's
    assert has_checkpoint(tmp_path)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _is_free(folder: Path) -> bool:
    """Whether another driver could take the study's lock."""
    with StudyFolder(folder).lock():
        return True
