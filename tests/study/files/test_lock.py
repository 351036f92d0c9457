"""What every lock of a study promises, on a local disk and on an object store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from darts_ray.errors import StudyError
from darts_ray.location import child_location
from darts_ray.study.files import lease as leases
from darts_ray.study.files.folder import LOCK_FILE, StudyFolder

HOLD = """
import sys, time
from darts_ray.study.files.folder import StudyFolder
with StudyFolder(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(600)
"""


class LockContract:
    """Subclasses have the fixture `place`: the location of a folder that does not exist."""

    def test_a_second_driver_is_kept_out(self, place: str) -> None:
        with (
            StudyFolder(place).lock(),
            pytest.raises(StudyError, match="working on this study"),
            StudyFolder(place).lock(),
        ):
            pass

    def test_it_is_free_again_afterwards_and_leaves_nothing(self, place: str) -> None:
        for _ in range(2):
            with StudyFolder(place).lock():
                pass
        assert StudyFolder(place).names() == []

    def test_it_is_free_again_after_an_error(self, place: str) -> None:
        with pytest.raises(ZeroDivisionError), StudyFolder(place).lock():
            raise ZeroDivisionError
        with StudyFolder(place).lock():
            pass

    def test_who_did_not_get_it_does_not_take_it_away(self, place: str) -> None:
        with StudyFolder(place).lock():
            for _ in range(2):
                with pytest.raises(StudyError), StudyFolder(place).lock():
                    pass

    def test_never_two_at_a_time(self, place: str) -> None:
        inside, most, entered = 0, 0, 0
        guard = threading.Lock()

        def contend() -> None:
            nonlocal inside, most, entered
            end = time.monotonic() + 4
            while time.monotonic() < end:
                try:
                    with StudyFolder(place).lock():
                        with guard:
                            inside, entered = inside + 1, entered + 1
                            most = max(most, inside)
                        time.sleep(0.01)
                        with guard:
                            inside -= 1
                except StudyError:
                    time.sleep(0.01)

        threads = [threading.Thread(target=contend) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert entered > 1
        assert most == 1

    def test_that_of_a_killed_driver_ends(self, place: str) -> None:
        driver = subprocess.Popen(
            [sys.executable, "-c", HOLD, place], stdout=subprocess.PIPE, text=True
        )
        assert driver.stdout is not None
        assert driver.stdout.readline() == "held\n"
        with pytest.raises(StudyError), StudyFolder(place).lock():
            pass
        driver.kill()
        driver.wait()
        driver.stdout.close()
        with StudyFolder(place).lock():
            pass


class TestLocalLock(LockContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return str(tmp_path / "study")

    def test_a_folder_that_was_there_stays(self, place: str) -> None:
        Path(place).mkdir()
        with StudyFolder(place).lock():
            pass
        assert Path(place).is_dir()


class TestLease(LockContract):
    @pytest.fixture
    def place(self, bucket: str) -> str:
        return child_location(bucket, f"locks/{uuid.uuid4().hex}")

    def other(self, place: str) -> None:
        """Write the lease of a driver on another host, as renewed just now."""
        holder = {"token": "theirs", "host": "elsewhere", "pid": 1, "started": 0.0}
        StudyFolder(place).write_text(LOCK_FILE, json.dumps(holder))

    def test_the_hosts_clock_does_not_matter(
        self, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.other(place)
        monkeypatch.setattr(time, "time", lambda: 4e9)
        with pytest.raises(StudyError, match="elsewhere"), StudyFolder(place).lock():
            pass

    def test_resume_waits_for_a_lease_that_nobody_renews(
        self, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "LEASE_SECONDS", 3.0)
        monkeypatch.setattr(leases, "POLL_SECONDS", 0.2)
        self.other(place)
        started = time.monotonic()
        with StudyFolder(place).lock(wait=True):
            assert time.monotonic() - started > 1
            assert "elsewhere" not in StudyFolder(place).read_text(LOCK_FILE)

    def test_resume_does_not_wait_for_a_driver_that_lives(
        self, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "LEASE_SECONDS", 4.0)
        monkeypatch.setattr(leases, "POLL_SECONDS", 0.2)
        with (
            StudyFolder(place).lock(),
            pytest.raises(StudyError, match="working on this study"),
            StudyFolder(place).lock(wait=True),
        ):
            pass

    def test_holder_that_lost_it_stops_and_writes_no_more(
        self, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "LEASE_SECONDS", 0.8)
        before = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        folder = StudyFolder(place)

        def work() -> None:
            with folder.lock():
                self.other(place)
                try:
                    time.sleep(10)
                finally:
                    with pytest.raises(StudyError, match="taken over"):
                        folder.write_text("genotypes.json", "{}")

        try:
            with pytest.raises(StudyError, match="taken over"):
                work()
        finally:
            signal.signal(signal.SIGINT, before)
        # only one's own is deleted
        assert "elsewhere" in folder.read_text(LOCK_FILE)
        assert not folder.has("genotypes.json")

    def test_claim_of_a_dead_driver_is_passed_over(
        self, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "CLAIM_SECONDS", 0.5)
        StudyFolder(place).write_text(f"{LOCK_FILE}.dead", "{}")
        time.sleep(1.6)  # the store counts in seconds
        with StudyFolder(place).lock():
            pass
