from __future__ import annotations

import pytest

from darts_ray.config import RetrainOptimConfig
from darts_ray.train.schedules import drop_path_rate, learning_rate, length_factor


def test_cosine_ends_near_zero_as_in_the_paper() -> None:
    optim = RetrainOptimConfig()
    assert learning_rate(optim, 0, 600) == 0.025
    assert learning_rate(optim, 300, 600) == pytest.approx(0.0125, rel=1e-12)
    # cos(pi / 3) = 1/2, so 3/4 of the rate is left after a third of the epochs
    assert learning_rate(optim, 200, 600) == pytest.approx(0.01875, rel=1e-12)
    # 1 - cos(x) = x^2 / 2 for the small x = pi / 600: 0.025 * x^2 / 4 = 1.7135e-7
    assert learning_rate(optim, 599, 600) == pytest.approx(1.7135e-7, rel=1e-4)


def test_cosine_has_a_lower_end() -> None:
    optim = RetrainOptimConfig(lr=0.3, lr_min=0.1)
    assert learning_rate(optim, 5, 10) == pytest.approx(0.2)


def test_exponential_is_the_papers_for_imagenet() -> None:
    optim = RetrainOptimConfig(lr=0.1, schedule="exponential", decay=0.97)
    # 0.1, then 0.097, then 0.1 * 0.9409
    rates = [learning_rate(optim, epoch, 250) for epoch in range(3)]
    assert rates == pytest.approx([0.1, 0.097, 0.09409], rel=1e-12)


def test_constant_stays() -> None:
    optim = RetrainOptimConfig(lr=20.0, schedule="constant")
    assert {learning_rate(optim, epoch, 8000) for epoch in (0, 1, 7999)} == {20.0}


def test_warm_up_rises_and_the_schedule_starts_after_it() -> None:
    optim = RetrainOptimConfig(lr=0.4, warmup_epochs=4)
    rates = [learning_rate(optim, epoch, 12) for epoch in (0, 1, 2, 3, 4, 8)]
    # eight cosine epochs follow; half of them are done at epoch 8
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.2], rel=1e-12)


def test_drop_path_rises_linearly_from_nothing() -> None:
    rates = [drop_path_rate(0.2, epoch, 600) for epoch in (0, 1, 300, 599)]
    assert rates == pytest.approx([0.0, 0.2 / 600, 0.1, 0.2 * 599 / 600], abs=1e-15)


def test_long_sequences_take_longer_steps() -> None:
    assert [length_factor(length, 35) for length in (35, 5, 55)] == [1.0, 1 / 7, 11 / 7]
