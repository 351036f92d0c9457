from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from darts_ray.errors import ResourceError
from darts_ray.tune.cluster.surroundings import SOCKET, SOCKET_BYTES, folder_for_ray
from tests.tune.cluster.head import RAY, running_head

REPOSITORY = Path(__file__).parents[3]
RUN = """
import os, ray
from darts_ray.config import ResourcesSection
from darts_ray.tune import start_ray
for _ in range(TIMES):
    with start_ray(ResourcesSection()):
        print("has", ray.get(ray.remote(lambda: os.environ.get("RAY_AUTH_MODE")).remote()))
print("after", os.environ.get("RAY_AUTH_MODE"), os.environ.get("RAY_AUTH_TOKEN"))
"""


def run(environment: Mapping[str, str], times: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN.replace("TIMES", str(times))],
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A user's environment: a home without a token, and no word about authentication."""
    home = tmp_path / "home"
    home.mkdir()
    unset = ("RAY_AUTH_MODE", "RAY_ADDRESS")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    return {**inherited, "HOME": str(home)}


@pytest.mark.slow  # starts two Rays
def test_an_embedded_ray_asks_for_a_token_and_leaves_none(environment: dict[str, str]) -> None:
    done = run(environment, times=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("has token") == 2
    assert "after None None" in done.stdout
    assert done.stderr == ""
    assert not (Path(environment["HOME"]) / ".ray").exists()


def test_ray_tmpdir_is_taken_at_its_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/proc/1/x")
    with pytest.raises(ResourceError, match="RAY_TMPDIR: /proc/1/x cannot be written"):
        folder_for_ray()
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * 90)
    with pytest.raises(ResourceError, match=r"RAY_TMPDIR: /x+ is too long a path"):
        folder_for_ray()
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv("TMPDIR", "/proc/1/x")
    with pytest.raises(ResourceError, match=r"TMPDIR: /proc/1/x cannot be written.*RAY_TMPDIR"):
        folder_for_ray()
    short = tmp_path / "r"
    room = SOCKET_BYTES - len(SOCKET) - 1
    if len(str(short)) <= room:
        monkeypatch.setenv("RAY_TMPDIR", str(short))
        assert folder_for_ray() == short


@pytest.mark.slow
def test_a_head_with_and_one_without_a_token(
    environment: dict[str, str], short_folder: Path, tmp_path: Path
) -> None:
    token = Path(environment["HOME"]) / ".ray" / "auth_token"
    submitter = tmp_path / "submitter"
    submitter.mkdir()
    without = {**environment, "HOME": str(submitter)}
    with running_head(environment, short_folder / "off", tmp_path / "off.log") as head:
        assert not token.exists()  # a head makes none and asks for none
        assert run({**without, "RAY_ADDRESS": head}).returncode == 0
        _make_token(environment)
        # a token that is there is shown, and one that nobody asks for does no harm
        done = run({**environment, "RAY_ADDRESS": head})
        assert done.returncode == 0, done.stderr
    with running_head(environment, short_folder / "on", tmp_path / "on.log") as head:
        done = run({**environment, "RAY_ADDRESS": head})
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        done = run({**without, "RAY_ADDRESS": head})
        assert done.returncode == 1
        assert f"the Ray cluster at {head} asks for a token, and this process has none" in (
            done.stderr
        )
        assert "~/.ray/auth_token" in done.stderr
        assert "gcs_client" not in done.stderr


def _make_token(environment: Mapping[str, str]) -> None:
    """As the README says."""
    command = [*RAY, "get-auth-token", "--generate"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout) == 64
