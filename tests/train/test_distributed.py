"""Several workers train as one: here processes on CPUs, with gloo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from darts_ray.data import ImageStream
from darts_ray.errors import ConfigError, NonFiniteLossError
from darts_ray.nn.conv.layers import drop_path
from darts_ray.runtime.workers import Workers
from darts_ray.train import RetrainRun
from tests.train.conftest import image_config, make_images, make_text, text_config

CPU = torch.device("cpu")
CELL = [
    [["sep_conv_3x3", 0], ["skip_connect", 1]],
    [["dil_conv_3x3", 0], ["max_pool_3x3", 2]],
]
GENOTYPE = {
    "format": 2,
    "skeleton": "darts",
    "cells": {"normal": CELL, "reduce": CELL},
    "outputs": {"normal": [2, 3], "reduce": [2, 3]},
    "output": "concat",
}
SMALL: dict[str, Any] = {
    "genotype": GENOTYPE,
    "network": {"channels": 2, "layers": 3, "auxiliary": True, "drop_path": 0.5},
    "epochs": 2,
    "batch_size": 6,
    "train_portion": 0.7,
    "eval_batch_size": 4,
    "sync_batch_norm": True,
}
CASES: dict[str, dict[str, Any]] = {
    "plain": SMALL,
    # 23 images: a batch of 12 in two parts, and one of 11 in parts of 6 and 5
    "accumulated": {**SMALL, "optim": {"accumulate": 2}},
    # nobody reads the last node of a normal cell, so its parameters get no gradient
    "unread node": {
        **SMALL,
        "genotype": {**GENOTYPE, "outputs": {"normal": [2], "reduce": [2, 3]}},
    },
    "own norms": {**SMALL, "sync_batch_norm": False},
    "diverging": {**SMALL, "optim": {"lr": 1e200}},
}


def _run(case: str, workers: Workers | None = None) -> RetrainRun:
    torch.set_default_dtype(torch.float64)
    try:
        data = make_images(33, 32)  # 23 to train on: batches of 6, 6, 6 and 5; 10 held out
        return RetrainRun(image_config(**CASES[case]), data, CPU, workers or Workers())
    finally:
        torch.set_default_dtype(torch.float32)


def _train(run: RetrainRun) -> dict[str, Any]:
    """Return what an undisturbed or resumed run measures and ends with."""
    rows, states = [], []
    while not run.finished:
        rows.append(run.run_epoch())
        states.append(run.state_dict())
    return {"rows": rows, "states": states}


def _work(rank: int, world: int, folder: str, cases: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world
    )
    workers = Workers(rank, world)
    for case in cases:
        name, _, start = case.partition(" from ")
        run = _run(name, workers)
        if start:
            run.load_state_dict(torch.load(start, weights_only=True))
        try:
            result = _train(run)
        except NonFiniteLossError as error:
            result = {"error": str(error)}
        torch.save(result, f"{folder}/{name}-{rank}.pt")
    dist.destroy_process_group()


def _together(world: int, folder: Path, cases: list[str]) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    mp.spawn(_work, (world, str(folder), cases), nprocs=world)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two workers, by case and rank."""
    folder = tmp_path_factory.mktemp("pair")
    _together(2, folder, list(CASES))
    return folder


def _assert_same(left: dict[str, Any], right: dict[str, Any], epochs: int = 2) -> None:
    """Compare losses, scores and weights of the last epochs to 1e-10."""
    measured = {"lr", "drop_path", "train_accuracy"}
    measured |= {"train_loss", "validation_loss", "validation_accuracy", "validation_top5"}
    for mine, theirs in zip(left["rows"][-epochs:], right["rows"][-epochs:], strict=True):
        for name in measured:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-10, abs=1e-10), name
    for part in ("network", "optimizer"):
        mine, theirs = left["states"][-1][part], right["states"][-1][part]
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", ["plain", "accumulated", "unread node"])
def test_two_workers_train_as_one(pair: Path, case: str) -> None:
    first, second = (torch.load(pair / f"{case}-{rank}.pt") for rank in (0, 1))
    alone = _train(_run(case))
    _assert_same(first, alone)
    _assert_same(second, alone)
    assert {row["drop_path"] for row in alone["rows"]} == {0.0, 0.25}


def test_workers_with_norms_of_their_own_keep_one_network(pair: Path) -> None:
    first, second = (torch.load(pair / f"own norms-{rank}.pt") for rank in (0, 1))
    _assert_same(first, second)
    other = _train(_run("own norms"))["rows"][-1]["train_loss"]
    assert first["rows"][-1]["train_loss"] != pytest.approx(other, rel=1e-6)


def test_all_workers_see_the_first_loss_that_is_not_finite(pair: Path) -> None:
    with pytest.raises(NonFiniteLossError) as alone:
        _train(_run("diverging"))
    for rank in (0, 1):
        assert torch.load(pair / f"diverging-{rank}.pt") == {"error": str(alone.value)}


def test_a_checkpoint_of_two_workers_resumes_with_one(pair: Path, tmp_path: Path) -> None:
    state = torch.load(pair / "plain-0.pt")["states"][0]
    resumed = _run("plain")
    resumed.load_state_dict(state)
    _assert_same(_train(resumed), _train(_run("plain")), epochs=1)


@pytest.mark.slow  # four processes
def test_a_checkpoint_of_two_workers_resumes_with_four(pair: Path, tmp_path: Path) -> None:
    torch.save(torch.load(pair / "plain-0.pt")["states"][0], tmp_path / "state.pt")
    _together(4, tmp_path, [f"plain from {tmp_path / 'state.pt'}"])
    alone = _train(_run("plain"))
    for rank in range(4):
        _assert_same(torch.load(tmp_path / f"plain-{rank}.pt"), alone, epochs=1)


def test_workers_share_out_the_batches_of_one() -> None:
    config = image_config(augment={"crop_padding": 2, "cutout": 3, "color_jitter": {"hue": 0.1}})

    def batches(workers: Workers) -> list[tuple[Tensor, Tensor]]:
        data = make_images(25)
        return list(
            ImageStream(
                data.train,
                torch.arange(25),
                6,
                info=data.info,
                augment=config.augment,
                seed=3,
                device=CPU,
                workers=workers,
            ).epoch()
        )

    whole = batches(Workers())
    shares = [batches(Workers(rank, 4)) for rank in range(4)]
    for step, (images, labels) in enumerate(whole):
        for rank in range(4):
            mine, my_labels = shares[rank][step]
            assert torch.equal(mine, images[rank::4])
            assert torch.equal(my_labels, labels[rank::4])
    assert [len(share[-1][1]) for share in shares] == [1, 0, 0, 0]


def test_drop_path_drops_a_row_whoever_holds_it() -> None:
    x = torch.rand(11, 2, 3, 3)
    torch.manual_seed(5)
    whole = drop_path(x, 0.4)
    for rank in range(3):
        torch.manual_seed(5)
        workers = Workers(rank, 3)
        assert torch.equal(drop_path(x[rank::3], 0.4, workers.rows(11)), whole[rank::3])


@pytest.mark.parametrize("world", [2, 3])
def test_rows_of_a_part_are_those_of_the_batch(world: int) -> None:
    for rank in range(world):
        workers = Workers(rank, world)
        held = list(range(11))[workers.rows(11).held]
        for first, last in ((0, 4), (4, 5), (5, 11)):
            ours, rows = workers.part(first, last)
            expected = [row for row in held if first <= row < last]
            assert held[ours] == expected
            assert list(range(first, last))[rows.held] == expected
            assert rows.num == last - first


def test_what_workers_cannot_do_is_told() -> None:
    with pytest.raises(ConfigError, match=r"holds 2 images, too few for 3 workers"):
        RetrainRun(image_config(), make_images(8), CPU, Workers(0, 3))
    with pytest.raises(ConfigError, match=r"text is trained by one worker"):
        RetrainRun(text_config(), make_text(), CPU, Workers(0, 2))
