"""The retraining that a file is made from."""

from pathlib import Path

import pytest

from darts_ray.errors import CheckpointError
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.run.contract import read_network


def test_a_damaged_network_is_named_where_it_lies_in_the_study(tmp_path: Path) -> None:
    folder = StudyFolder(str(tmp_path / "study"))
    folder.write_bytes("retrain/r/checkpoint_000001/network.pt", b"PK half a file")
    with pytest.raises(CheckpointError) as caught:
        read_network(folder, "retrain/r/checkpoint_000001/network.pt", tmp_path / "copy.pt")
    said = str(caught.value)
    assert f"{folder.child('retrain/r/checkpoint_000001/network.pt')}: is truncated" in said
    assert "`darts-ray resume" in said
    assert "copy.pt" not in said
