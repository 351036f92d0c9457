"""How fast the exported file runs on this machine's CPU."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from darts_ray.export.consumer.images import OnnxNetwork
from darts_ray.export.consumer.language import OnnxLanguageModel
from darts_ray.export.consumer.session import is_language_model

_WARM_UP_CALLS = 3
_MIN_CALLS = 5
_TEXT_LENGTH = 35


@dataclass(frozen=True)
class BenchmarkResult:
    """One batch size.

    Attributes:
        batch_size: images, or texts of 35 words (an unrolled file's: its length), per call.
        num_threads: of one call.
        median_ms: of the calls' latencies, in milliseconds.
        p95_ms: 95 % of the calls were at least as fast, in milliseconds.
        images_per_second: at the median latency; of a language model words.
    """

    batch_size: int
    num_threads: int
    median_ms: float
    p95_ms: float
    images_per_second: float


def benchmark_onnx(
    path: Path,
    *,
    batch_sizes: Sequence[int] = (1, 32),
    seconds: float = 1.0,
    num_threads: int | None = None,
) -> list[BenchmarkResult]:
    """Time an exported network on random inputs, after a warm-up; inputs are ready before.

    Args:
        path: the file, float or int8, of images or text.
        batch_sizes: to time.
        seconds: about how long each batch size is timed.
        num_threads: of one call; None: as many as there are CPUs for this process.

    Raises:
        PredictionError: the file cannot be read.
    """
    threads = num_threads or available_cpus()
    timed = []
    for size in batch_sizes:
        call, per_call = _call(path, size, threads)
        median, p95 = _time(call, seconds)
        timed.append(BenchmarkResult(size, threads, 1e3 * median, 1e3 * p95, per_call / median))
    return timed


def benchmark_files(paths: Sequence[Path], *, seconds: float) -> dict[str, Any]:
    """Time batches of 1 and 32 of each file, with one thread and with all.

    Args:
        paths: to time.
        seconds: as of `benchmark_onnx`.

    Returns:
        `cpu` and `onnxruntime`, where that was; `files`: by name, the fields of each result.

    Raises:
        PredictionError: a file cannot be read.
    """
    counts = dict.fromkeys((1, available_cpus()))
    files = {
        path.name: [
            asdict(result)
            for threads in counts
            for result in benchmark_onnx(path, seconds=seconds, num_threads=threads)
        ]
        for path in paths
    }
    return {"cpu": cpu_name(), "onnxruntime": version("onnxruntime"), "files": files}


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def cpu_name() -> str:
    """Return the name of this machine's CPU, as its maker gives it where that is known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _call(path: Path, batch_size: int, num_threads: int) -> tuple[Callable[[], object], int]:
    """Return what is timed, and how many images or words it answers for."""
    draw = np.random.default_rng(0)
    if is_language_model(path):
        model = OnnxLanguageModel(path, num_threads=num_threads)
        words = len(model.metadata.class_names)
        tokens = draw.integers(0, words, (model.length or _TEXT_LENGTH, batch_size))
        hidden = model.initial_state(batch_size)
        return lambda: model.run(tokens, hidden), tokens.size
    network = OnnxNetwork(path, num_threads=num_threads)
    shape = (batch_size, *network.image_size)
    batch = network.prepare(draw.integers(0, 256, shape, dtype=np.uint8))
    return lambda: network.run(batch), batch_size


def _time(call: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Return the median and the 95 % quantile of a call's latencies, in seconds."""
    for _ in range(_WARM_UP_CALLS):
        call()
    latencies: list[float] = []
    end = time.perf_counter() + seconds
    while len(latencies) < _MIN_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        latencies.append(time.perf_counter() - start)
    median, p95 = (float(value) for value in np.percentile(latencies, (50, 95)))
    return median, p95
