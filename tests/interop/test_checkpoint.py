"""Checkpoint files are read as plain tensors, or refused with the reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from darts_ray.errors import CheckpointError
from darts_ray.interop import read_checkpoint


def test_reads_what_torch_saves(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"epoch": 3, "state_dict": nn.Linear(2, 1).state_dict()}, path)
    values = read_checkpoint(path)
    assert values["epoch"] == 3
    assert values["state_dict"]["weight"].shape == (1, 2)


def test_reads_the_format_of_old_versions(tmp_path):
    path = tmp_path / "old.pt"
    state = nn.Linear(2, 1).state_dict()
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(path)["weight"], state["weight"])


def test_a_pickled_module_needs_converting(tmp_path):
    path = tmp_path / "ptb_model.pt"
    torch.save(nn.Linear(2, 1), path)
    with pytest.raises(CheckpointError, match=r"ptb_model.pt .*state_dict\(\), NEW_PATH"):
        read_checkpoint(path)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"Cannot read .*missing.pt: No such file"):
        read_checkpoint(tmp_path / "missing.pt")
    text = tmp_path / "notes.pt"
    text.write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match=r"notes.pt"):
        read_checkpoint(text)
    whole = tmp_path / "cut.pt"
    torch.save(nn.Linear(50, 50).state_dict(), whole)
    whole.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"cut.pt"):
        read_checkpoint(whole)


def test_a_lone_tensor_is_no_state_dict(tmp_path):
    path = tmp_path / "tensor.pt"
    torch.save(torch.zeros(2), path)
    with pytest.raises(CheckpointError, match="holds a Tensor"):
        read_checkpoint(path)
