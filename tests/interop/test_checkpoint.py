"""Checkpoint files are read as plain tensors, or refused with the reason."""

from __future__ import annotations

import contextlib
import gzip
import io
import pickle
import zipfile

import numpy as np
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


def legacy(values):
    """Return what torch.save wrote before version 1.6."""
    sink = io.BytesIO()
    torch.save(values, sink, _use_new_zipfile_serialization=False)
    return sink.getvalue()


def modern(values):
    sink = io.BytesIO()
    torch.save(values, sink)
    return sink.getvalue()


def zipped(name):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(name, b"content")
    return sink.getvalue()


MANY = {f"entry {number}": torch.zeros(9) for number in range(99)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (legacy(MANY)[:30], "damaged or cut short"),
        (legacy(MANY)[: len(legacy(MANY)) // 3], "damaged or cut short"),
        (legacy(MANY)[:-9], "damaged or cut short"),
        (modern(MANY)[:-9], "cut short"),
        (modern(MANY)[:100], "cut short"),
        (b"<html>", "an HTML page"),
        (b"\n <!doctype html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (gzip.compress(legacy(MANY)), "gunzip"),
        (zipped("picture.png"), "torch.save did not write it"),
        (pickle.dumps({"weight": [1.0]}), "is a pickle, but torch.save did not write it"),
        (pickle.dumps(np.zeros(3)), "is a pickle, but torch.save did not write it"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b'\x40\0\0\0\0\0\0\0{"weight": {}}', "a safetensors file"),
        (b"\0" * 600, "not a PyTorch checkpoint"),
        (b"text", "not a PyTorch checkpoint"),
        (legacy({"weight": np.zeros(3)}), "holds a numpy"),
        (modern({"optimizer": nn.Linear(1, 1)}), "run code from the file"),
    ],
)
def test_what_is_no_state_dict_is_told_apart(tmp_path, content, message):
    path = tmp_path / "some.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"some.pt .*{message}") as caught:
        read_checkpoint(path)
    assert "only if you got the file" not in str(caught.value)


def test_damaged_bytes_never_end_in_another_error(tmp_path):
    draw = np.random.default_rng(0)
    path = tmp_path / "some.pt"
    for whole in (legacy(MANY), modern(MANY)):
        for _ in range(40):
            broken = bytearray(whole)
            for position in draw.integers(min(len(whole), 4000), size=4):
                broken[position] = draw.integers(256)
            path.write_bytes(bytes(broken))
            with contextlib.suppress(CheckpointError):
                read_checkpoint(path)


def test_a_lone_tensor_is_no_state_dict(tmp_path):
    path = tmp_path / "tensor.pt"
    torch.save(torch.zeros(2), path)
    with pytest.raises(CheckpointError, match="holds a Tensor"):
        read_checkpoint(path)
