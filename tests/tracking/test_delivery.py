"""The thread, with a stand-in for the server; tests with real servers are in test_server.py."""

from pathlib import Path
from typing import Any

import pytest

from darts_ray.tracking import delivery as delivery_module
from darts_ray.tracking.delivery import Delivery
from darts_ray.tracking.spool import Spool


class FakeStore:
    def __init__(self) -> None:
        self.applied: list[dict[str, Any]] = []
        self.is_up = True
        self.broken: dict[str, Exception] = {}

    def apply(self, event: dict[str, Any]) -> None:
        if not self.is_up:
            raise ConnectionError("refused")
        if event["op"] in self.broken:
            raise self.broken[event["op"]]
        self.applied.append(event)

    def answers(self) -> bool:
        return self.is_up

    @property
    def operations(self) -> list[str]:
        return [event["op"] for event in self.applied]


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def delivery(tmp_path: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(delivery_module, "_FIRST_PAUSE_S", 0.001)
    delivery = Delivery(Spool(tmp_path), store)  # type: ignore[arg-type]
    yield delivery
    delivery.stop()


def test_an_outage_loses_nothing_and_keeps_the_order(
    delivery: Delivery, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    delivery.put({"op": "a"})
    assert delivery.flush(10)
    store.is_up = False
    for op in "bcd":
        delivery.put({"op": op})
        assert not delivery.flush(10)
    store.is_up = True
    assert delivery.flush(10)
    assert store.operations == ["a", "b", "c", "d"]
    messages = [record.getMessage() for record in caplog.records]
    assert [m.split(" (")[0].split(";")[0] for m in messages] == [
        "MLflow does not answer",
        "MLflow answers again",
    ]


def test_a_refused_event_does_not_hold_up_the_others(
    delivery: Delivery, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    # LookupError: about a run that is not there. Trying again is useless.
    store.broken["b"] = LookupError("trial 7 has no MLflow run")
    for op in "abbc":
        delivery.put({"op": op})
    assert delivery.flush(10)
    assert store.operations == ["a", "c"]
    assert [record.getMessage() for record in caplog.records] == [
        "MLflow lacks a b event: LookupError: trial 7 has no MLflow run"
    ]


def test_only_a_refusal_is_final_everything_else_waits(
    delivery: Delivery, store: FakeStore
) -> None:
    store.broken["b"] = RuntimeError("internal error")
    for op in "abc":
        delivery.put({"op": op})
    assert not delivery.flush(10)
    assert store.operations == ["a"]
    store.broken.clear()
    assert delivery.flush(10)
    assert store.operations == ["a", "b", "c"]


def test_artifact_store_that_is_down_alone_holds_up_nothing_else_and_loses_nothing(
    delivery: Delivery, store: FakeStore, tmp_path: Path
) -> None:
    store.broken["log_artifact"] = OSError("no bucket")
    kept = [delivery.spool.attach(b"x", name) for name in ("f", "g")]
    delivery.put({"op": "a"})
    for attachment in kept:
        delivery.put({"op": "log_artifact", "attachment": attachment})
        delivery.put({"op": "b"})
    assert not delivery.flush(10)
    assert store.operations == ["a", "b", "b"]
    delivery.stop()
    assert all(delivery.spool.attachment(attachment).exists() for attachment in kept)

    other = FakeStore()
    resumed = Delivery(Spool(tmp_path), other)  # type: ignore[arg-type]
    assert resumed.flush(10)
    resumed.stop()
    assert other.operations == ["log_artifact", "log_artifact"]
    assert not any(resumed.spool.attachment(attachment).exists() for attachment in kept)


def test_epochs_that_piled_up_go_as_one_request_per_trial(
    delivery: Delivery, store: FakeStore
) -> None:
    # Straight into the queue, so that the thread does not start before all are there.
    delivery.spool.append({"op": "start"})
    for step in range(3):
        for trial in ("t1", "t2"):
            delivery.spool.append({"op": "log_epoch", "trial": trial, "step": step})
    delivery.spool.append({"op": "end"})
    assert delivery.flush(10)
    assert store.operations == ["start", "log_epochs", "log_epochs", "end"]
    for event, trial in zip(store.applied[1:3], ("t1", "t2"), strict=True):
        assert event["trial"] == trial
        assert [row["step"] for row in event["rows"]] == [0, 1, 2]


def test_what_a_stopped_thread_left_is_delivered_by_the_next(
    delivery: Delivery, store: FakeStore, tmp_path: Path
) -> None:
    store.is_up = False
    delivery.put({"op": "a"})
    assert not delivery.flush(10)
    delivery.stop()
    other = FakeStore()
    successor = Delivery(Spool(tmp_path), other)  # type: ignore[arg-type]
    assert successor.flush(10)
    successor.stop()
    assert other.operations == ["a"]


def test_a_full_disk_costs_the_event_and_not_the_study(
    delivery: Delivery,
    store: FakeStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(event: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(delivery.spool, "append", full)
        delivery.put({"op": "a"})
    delivery.put({"op": "b"})
    assert delivery.flush(10)
    assert store.operations == ["b"]
    assert "No space left" in caplog.text
