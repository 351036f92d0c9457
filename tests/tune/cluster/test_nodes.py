from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_cluster_grows_to_three_nodes_and_a_study_survives_the_loss_of_one(
    tmp_path: Path,
) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.tune.lose_node", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "the study survived" in finished.stdout
