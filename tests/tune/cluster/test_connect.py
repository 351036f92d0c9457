from __future__ import annotations

import os

import pytest
import ray

from darts_ray.config import ResourcesSection
from darts_ray.errors import ResourceError
from darts_ray.tune import start_ray


def test_an_embedded_ray_is_started_without_telemetry_and_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray.shutdown()
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    with start_ray(ResourcesSection()):
        assert ray.cluster_resources()["CPU"] >= 1
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        with start_ray(ResourcesSection()):  # one that runs is used, and left running
            pass
        assert ray.is_initialized()
    assert not ray.is_initialized()


def test_a_named_cluster_must_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(address: str | None, **_: object) -> None:
        raise ConnectionError(f"no Ray at {address}\nand a long explanation")

    monkeypatch.setattr("ray.init", unreachable)
    with pytest.raises(ResourceError, match=r"at 10\.0\.0\.1:6379 cannot be reached: no Ray at"):
        with start_ray(ResourcesSection(address="10.0.0.1:6379")):
            pass
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(ResourceError, match="the Ray cluster at head:6379"):
        with start_ray(ResourcesSection()):
            pass
