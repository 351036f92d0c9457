"""Whole paths on a device that is not the CPU: same numbers, no mixing, few reads to the host.

See `tests.device.pretended` for what this can and cannot show.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from darts_ray.config import SearchOptimConfig
from darts_ray.nn import ConvSupernet, RecurrentDropout, RecurrentSupernet
from darts_ray.search import BilevelStep, SearchRun
from darts_ray.search.spectrum import dominant_eigenvalue
from darts_ray.train import RetrainRun
from tests.device.pretended import NAME, PretendedTensor, Pretender, device, pretended
from tests.search.small import image_config, image_data, text_config, text_data
from tests.train.conftest import image_config as retrain_config
from tests.train.conftest import make_images

CPU = torch.device("cpu")
CLOCKS = ("seconds", "samples_per_second", "peak_memory_bytes")
ORDERS = {
    "first": {"order": "first"},
    "unrolled": {"order": "unrolled", "hvp": "finite_difference"},
    "exact": {"order": "unrolled", "hvp": "exact"},
}


@pytest.fixture
def other() -> Iterator[Pretender]:
    with pretended() as pretender:
        yield pretender


def test_mixing_with_the_cpu_is_refused(other: Pretender) -> None:
    on_device = torch.ones(3, device=device())
    with pytest.raises(RuntimeError, match="mixed"):
        on_device + torch.ones(3)
    assert (on_device + torch.tensor(1.0)).device.type == NAME  # a number without dimensions


def test_reads_are_counted(other: Pretender) -> None:
    on_device = torch.arange(4.0).to(device())
    doubled = on_device * 2
    assert other.num_reads == 0
    assert doubled.sum().item() == 12.0
    assert doubled.cpu().tolist() == [0.0, 2.0, 4.0, 6.0]
    assert other.num_reads == 2


def test_views_share_memory(other: Pretender) -> None:
    base = torch.zeros(4, device=device())
    base[1:3] += 1
    assert base.cpu().tolist() == [0.0, 1.0, 1.0, 0.0]


def _conv() -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    net = ConvSupernet(channels=2, num_classes=3, layers=3, nodes=1, in_channels=2).double()
    images = torch.randn(2, 4, 2, 8, 8, dtype=torch.float64)
    labels = torch.randint(3, (2, 4))
    return net, (images[0], labels[0]), (images[1], labels[1])


def _recurrent() -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    dropout = RecurrentDropout(output=0.2, hidden=0.2, input=0.2, embedding=0.2, word=0.1)
    net = RecurrentSupernet(7, embedding_dim=6, hidden_dim=6, dropout=dropout).double()
    tokens = torch.randint(7, (2, 6, 4))
    return net, (tokens[0, :-1], tokens[0, 1:]), (tokens[1, :-1], tokens[1, 1:])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("make", [_conv, _recurrent])
def test_steps_agree_with_the_cpu_and_read_nothing(
    other: Pretender, make: Any, order: str
) -> None:
    net, train, valid = make()
    twin = copy.deepcopy(net).to(device())
    assert isinstance(twin.weights[0].data, PretendedTensor)
    optim = SearchOptimConfig(weight_lr=0.1, **ORDERS[order])
    results = []
    for supernet, batches in (
        (net, (train, valid)),
        (twin, [tuple(part.to(device()) for part in batch) for batch in (train, valid)]),
    ):
        torch.manual_seed(1)
        step = BilevelStep(supernet, optim)
        before = other.num_reads
        for _ in range(2):
            result = step.step(*batches)
        assert other.num_reads == before, other.reads
        results.append([result.train_loss, result.valid_loss, *supernet.parameters()])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(_host(theirs), _host(ours), rtol=5e-9, atol=5e-9)


@pytest.mark.parametrize("make", [_conv, _recurrent])
def test_eigenvalue_agrees_with_the_cpu(other: Pretender, make: Any) -> None:
    net, _, valid = make()
    net.eval()
    twin = copy.deepcopy(net).to(device())
    expected = dominant_eigenvalue(net, valid, iterations=5)
    value = dominant_eigenvalue(twin, tuple(part.to(device()) for part in valid), iterations=5)
    assert value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_search_epochs_agree_and_resume_on_the_other_device(other: Pretender, kind: str) -> None:
    config, data = {"image": (image_config, image_data), "text": (text_config, text_data)}[kind]
    short = config(max_steps=2)
    here = SearchRun(short, data(), CPU)
    there = SearchRun(short, data(), device())
    expected = here.run_epoch()
    _assert_close(there.run_epoch(), expected)
    # a checkpoint of one device goes on on the other
    moved = SearchRun(short, data(), device())
    moved.load_state_dict(_to_host(there.state_dict()))
    back = SearchRun(short, data(), CPU)
    back.load_state_dict(_to_host(there.state_dict()))
    expected = back.run_epoch()
    # why so wide: the devices round differently, and a maximum that tips changes a gradient
    metrics = moved.run_epoch()
    _assert_close(metrics, expected, rel=1e-2)
    _assert_close(there.run_epoch(), metrics)


def test_reads_of_a_search_epoch_do_not_grow_with_its_steps(other: Pretender) -> None:
    counts = []
    for num in (21, 41):
        run = SearchRun(image_config(), image_data(num), device())
        run.run_epoch()
        before = other.num_reads
        run.run_epoch()
        counts.append(other.num_reads - before)
    assert counts[0] == counts[1] < 20


def test_retraining_epochs_agree(other: Pretender) -> None:
    here = RetrainRun(retrain_config(), make_images(), CPU)
    there = RetrainRun(retrain_config(), make_images(), device())
    for _ in range(2):
        _assert_close(there.run_epoch(), here.run_epoch())


def _host(value: Tensor) -> Tensor:
    return value.detach().cpu()


def _to_host(state: Any) -> Any:
    if isinstance(state, Tensor):
        return _host(state)
    if isinstance(state, dict):
        return {key: _to_host(value) for key, value in state.items()}
    return [_to_host(item) for item in state] if isinstance(state, list) else state


def _assert_close(metrics: dict[str, Any], expected: dict[str, Any], rel: float = 1e-4) -> None:
    assert metrics.keys() == expected.keys()
    for key, value in expected.items():
        if key == "alphas":
            for cell, rows in value.items():
                torch.testing.assert_close(
                    torch.tensor(metrics[key][cell]), torch.tensor(rows), rtol=rel, atol=1e-6
                )
        elif isinstance(value, str):
            assert metrics[key] == value, key
        elif key not in CLOCKS:
            assert metrics[key] == pytest.approx(value, rel=rel, abs=1e-6), key
