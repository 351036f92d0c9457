import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_ray.tracking.spool import Spool


def numbers(spool: Spool, limit: int = 100) -> list[int]:
    return [item.event["n"] for item in spool.read(limit)]


def test_events_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "queue")
    for n in range(5):
        spool.append({"n": n})
    spool.mark_delivered(spool.read(2))
    again = Spool(tmp_path / "queue")
    assert numbers(again) == [2, 3, 4]
    assert not again.is_empty
    assert again.study_id == spool.study_id


def test_files_shrink_when_everything_is_delivered(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"n": 0})
    spool.mark_delivered(spool.read(1))
    assert spool.is_empty
    assert (tmp_path / "events.jsonl").stat().st_size == 0
    spool.append({"n": 1})
    assert numbers(Spool(tmp_path)) == [1]


def test_a_line_that_a_kill_cut_off_costs_only_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path)
    spool.append({"n": 0})
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"n": 1, "metr')
    again = Spool(tmp_path)
    again.append({"n": 2})
    assert numbers(again) == [0, 2]
    assert "cut off" in caplog.text
    again.mark_delivered(again.read(10))
    assert again.is_empty


def test_nothing_but_a_torn_line_is_an_empty_queue(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b'{"n": 1, "metr')
    spool = Spool(tmp_path)
    assert spool.read(10) == []
    assert spool.is_empty


def test_a_kill_while_shrinking_skips_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"n": 0})
    size = (tmp_path / "events.jsonl").stat().st_size
    # Killed after the events were truncated, before the position was set back.
    (tmp_path / "delivered").write_text(str(size))
    os.truncate(tmp_path / "events.jsonl", 0)
    for n in (1, 2):  # started again, twice killed before anything could be delivered
        Spool(tmp_path).append({"n": n})
    assert numbers(Spool(tmp_path)) == [1, 2]


def test_attachments_outlive_their_source_until_delivered(tmp_path: Path) -> None:
    source = tmp_path / "weights.pt"
    source.write_bytes(b"weights")
    spool = Spool(tmp_path / "queue")
    spool.append({"n": 0, "attachment": spool.attach(source, "best.pt")})
    spool.append({"n": 1, "attachment": spool.attach(b"text", "a.txt")})
    source.unlink()
    first, second = Spool(tmp_path / "queue").read(10)
    kept = spool.attachment(first.event["attachment"])
    assert (kept.name, kept.read_bytes()) == ("best.pt", b"weights")
    spool.mark_delivered([first])
    assert not kept.exists()
    assert spool.attachment(second.event["attachment"]).read_bytes() == b"text"


@given(st.lists(st.sampled_from(["append", "deliver one", "deliver all", "restart"]), max_size=30))
def test_every_event_is_read_once_and_in_order(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        appended, delivered = 0, []
        for step in steps:
            if step == "append":
                spool.append({"n": appended})
                appended += 1
            elif step == "restart":
                spool = Spool(Path(folder))
            elif queued := spool.read(1 if step == "deliver one" else 100):
                spool.mark_delivered(queued)
                delivered += [item.event["n"] for item in queued]
        assert delivered + numbers(spool) == list(range(appended))
        assert spool.is_empty == (len(delivered) == appended)
