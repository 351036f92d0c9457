from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_three_nodes_pass_preflight_and_a_study_survives_the_loss_of_one(
    tmp_path: Path, short_folder: Path
) -> None:
    home = short_folder / "home"  # without a token, so that all nodes agree on doing without
    home.mkdir()
    finished = subprocess.run(
        [sys.executable, "-m", "tests.tune.lose_node", str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    logs = [log.read_text()[-2000:] for log in short_folder.glob("ray/session_*/logs/gcs_server*")]
    assert finished.returncode == 0, "\n".join([finished.stderr, *logs])
    assert "the study survived" in finished.stdout
