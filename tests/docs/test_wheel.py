"""From the wheel alone to a prediction for one's own pictures, in at most six commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.docs.blocks import REPOSITORY
from tests.docs.material import CLASSES, images

SMALLER = (
    "search.epochs=1 search.max_steps=2 select.epochs=1 select.max_steps=2"
    " retrain.epochs=1 retrain.max_steps=2 seeds=[0]"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("wheel")
    # --no-deps: the large packages are those of this environment
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(built), "."]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=300)
    return next(built.glob("darts_ray-*.whl"))


@pytest.mark.slow
def test_a_prediction_in_at_most_six_commands(wheel: Path, tmp_path: Path) -> None:
    images(tmp_path)
    venv.create(tmp_path / "env", with_pip=True, system_site_packages=True)
    smaller = " ".join(f"--set '{value}'" for value in SMALLER.split())
    commands = [
        f"pip install --no-deps --force-reinstall --quiet {wheel}",
        "darts-ray init your-images",
        f"darts-ray study your-images.yaml {smaller}",
        "darts-ray predict runs/your-images photos/val --top 1 --json",
    ]
    assert len(commands) <= 6
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("PYTHONPATH", None)
    for command in commands:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=500,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr[-3000:]}"
    predicted = json.loads(done.stdout)
    assert len(predicted) == 30
    for picture in predicted:
        assert next(item["label"] for item in picture["predictions"]) in CLASSES
    where = subprocess.run(
        [tmp_path / "env" / "bin" / "python", "-c", "import darts_ray; print(darts_ray.__file__)"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=True,
    )  # fmt: skip
    assert str(tmp_path / "env") in where.stdout
