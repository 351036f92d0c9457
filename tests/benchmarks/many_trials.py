"""What a study costs beside its trials.

python -m tests.benchmarks.many_trials 250 500 1000 2000

Each number of trials runs in a process of its own: a whole `run_study` on a real Ray, of
searches whose epochs cost nothing. The seconds per trial are then Ray's and this package's,
and the memory is the driver's. Where they grow with the number of trials, something is
quadratic.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

HEADER = "trials   seconds   s per trial   driver peak (MiB)   report (s)   report (KiB)"


def measure(trials: int) -> str:
    """Run a study of that many searches; return a row of the table."""
    from darts_ray.config import ResourcesSection
    from darts_ray.study import run_study, write_report
    from darts_ray.study.run import stages
    from darts_ray.tune import start_ray
    from tests.tune.stub import StubTrainable, stub_study

    stages.SearchTrainable = StubTrainable  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = stub_study(
            folder,
            epochs=2,
            output=str(folder / "runs"),
            seeds=list(range(trials)),
            # why so small: preflight asks for the disk that real checkpoints of it would take
            search={"batch_size": 32, "network": {"channels": 2, "layers": 3}},
            tracking={"enabled": False},
        )
        peak = _Peak()
        with start_ray(ResourcesSection()), peak:
            started = time.monotonic()
            result = run_study(study, quiet=True)
            seconds = time.monotonic() - started
        started = time.monotonic()
        page = Path(write_report(result.folder))
        report = time.monotonic() - started
        size = page.stat().st_size / 1024
    return (
        f"{trials:6d} {seconds:9.1f} {seconds / trials:13.3f} {peak.bytes / 2**20:19.0f}"
        f" {report:12.1f} {size:14.0f}"
    )


class _Peak:
    """The largest resident set of this process, sampled; `ru_maxrss` counts its parent's."""

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._ended.wait(0.2):
            self.bytes = max(self.bytes, process.memory_info().rss)


def main(numbers: list[int]) -> None:
    """Print a row per number."""
    print(HEADER, flush=True)
    for number in numbers:
        command = [sys.executable, "-m", "tests.benchmarks.many_trials", "--one", str(number)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment)
        if ended.returncode:
            sys.exit(ended.stdout[-2000:] + ended.stderr[-4000:])
        print(ended.stdout.splitlines()[-1], flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(measure(int(sys.argv[2])))
    else:
        main([int(word) for word in sys.argv[1:]] or [250, 500, 1000, 2000])
