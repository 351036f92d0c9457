from __future__ import annotations

import pytest
import torch
from torch import nn

from darts_ray.errors import CheckpointError
from darts_ray.train.averaging import WeightAverage


def _steps(parameter: nn.Parameter, optimizer: torch.optim.Optimizer, num: int) -> list[float]:
    """Minimise w^2 and return the iterates."""
    iterates = []
    for _ in range(num):
        optimizer.zero_grad()
        parameter.square().sum().backward()
        optimizer.step()
        iterates.append(parameter.item())
    return iterates


def test_mean_of_iterates_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([8.0], dtype=torch.float64))
    average = WeightAverage([weight])
    optimizer = torch.optim.SGD([weight], lr=0.25)
    for _ in range(3):
        _steps(weight, optimizer, 1)
        average.update()
    # w halves at each step: 4, 2, 1
    assert weight.item() == 1.0
    with average.applied():
        assert weight.item() == pytest.approx(7 / 3, rel=1e-12)
    assert weight.item() == 1.0


def test_iterates_are_those_of_torchs_asgd() -> None:
    ours, theirs = (nn.Parameter(torch.tensor([3.0], dtype=torch.float64)) for _ in range(2))
    sgd = torch.optim.SGD([ours], lr=0.1, weight_decay=0.01)
    asgd = torch.optim.ASGD([theirs], lr=0.1, t0=0, lambd=0.0, weight_decay=0.01)
    average = WeightAverage([ours])
    for _ in range(6):
        _steps(ours, sgd, 1)
        average.update()
    iterates = _steps(theirs, asgd, 6)
    # torch keeps its learning rate in float32
    assert ours.item() == pytest.approx(iterates[-1], rel=1e-6)
    with average.applied():
        assert ours.item() == pytest.approx(sum(iterates) / 6, rel=1e-6)
    # torch leaves the first iterate out
    assert asgd.state[theirs]["ax"].item() == pytest.approx(sum(iterates[1:]) / 5, rel=1e-6)


def test_restored_average_goes_on() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    first = WeightAverage([weight])
    first.update()
    state = first.state_dict()
    second = WeightAverage([weight])
    second.load_state_dict(state)
    weight.data.fill_(4.0)
    for average in (first, second):
        average.update()
        with average.applied():
            assert weight.item() == 2.5


def test_restoring_into_another_size_is_an_error() -> None:
    average = WeightAverage([nn.Parameter(torch.zeros(2))])
    with pytest.raises(CheckpointError, match="another size"):
        average.load_state_dict({"mean": [torch.zeros(3)], "count": 1})
