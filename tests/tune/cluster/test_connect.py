from __future__ import annotations

import logging
import os
import socket
import time
from types import SimpleNamespace

import pytest
import ray

from darts_ray.config import ResourcesSection
from darts_ray.errors import ResourceError
from darts_ray.tune import start_ray
from darts_ray.tune.cluster import answering


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


@pytest.fixture
def silent_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_named_cluster_must_answer_within_a_minute(
    silent_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ray.shutdown()
    assert answering.ANSWER_S == 60
    monkeypatch.setattr(answering, "ANSWER_S", 8.0)
    monkeypatch.setattr(answering, "PROGRESS_S", 2.0)
    address = f"127.0.0.1:{silent_port}"
    started = time.monotonic()
    with caplog.at_level(logging.WARNING), pytest.raises(ResourceError) as failure:
        with start_ray(ResourcesSection(address=address)):
            pass
    assert time.monotonic() - started < 30
    assert f"the Ray cluster at {address} does not answer" in str(failure.value)
    assert f"Waiting for the Ray cluster at {address}" in caplog.text
    monkeypatch.setattr(answering, "ANSWER_S", 0.1)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ResourceError, match=f"the Ray cluster at {address} does not answer"):
        with start_ray(ResourcesSection()):
            pass


def test_what_listens_there_may_be_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    ray.shutdown()
    monkeypatch.setattr(answering, "ANSWER_S", 6.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(ResourceError, match=f"at {address} does not answer"):
            with start_ray(ResourcesSection(address=address)):
                pass


@pytest.mark.parametrize("where", ["resources.address", "RAY_ADDRESS"])
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://head:10001", "is an address of Ray Client, through which.*ray job submit"),
        ("http://head:8265", "is an address for `ray job submit`"),
    ],
)
def test_addresses_of_another_kind_are_refused_at_once(
    where: str, address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.shutdown()
    section = ResourcesSection()
    if where == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", address)
    else:
        section = ResourcesSection(address=address)
    with pytest.raises(ResourceError, match=f"{where}: {address} {message}"):
        with start_ray(section):
            pass


def test_a_process_that_is_a_ray_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    client = SimpleNamespace(is_connected=lambda: True)
    monkeypatch.setattr("ray.util.client.ray", client)
    with pytest.raises(ResourceError, match="connected through Ray Client"):
        with start_ray(ResourcesSection()):
            pass
