"""How fast the exported file runs on this machine's CPU."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darts_ray.export.reader import OnnxNetwork

_WARM_UP_CALLS = 3
_MIN_CALLS = 5


@dataclass(frozen=True)
class BenchmarkResult:
    """One batch size.

    Attributes:
        batch_size: images per call.
        median_ms: of the calls' latencies, in milliseconds.
        p95_ms: 95 % of the calls were at least as fast, in milliseconds.
        images_per_second: at the median latency.
    """

    batch_size: int
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
    """Time an exported image network on random images, after a warm-up.

    Args:
        path: the file, float or int8.
        batch_sizes: to time.
        seconds: about how long each batch size is timed.
        num_threads: of one call; None: onnxruntime's choice.
    """
    network = OnnxNetwork(path, num_threads=num_threads)
    return [_time(network, size, seconds) for size in batch_sizes]


def _time(network: OnnxNetwork, batch_size: int, seconds: float) -> BenchmarkResult:
    shape = (batch_size, *network.image_size)
    images = np.random.default_rng(0).random(shape, dtype=np.float32)
    for _ in range(_WARM_UP_CALLS):
        network.predict(images)
    latencies: list[float] = []
    end = time.perf_counter() + seconds
    while len(latencies) < _MIN_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        network.predict(images)
        latencies.append(time.perf_counter() - start)
    median, p95 = (float(value) for value in np.percentile(latencies, (50, 95)))
    return BenchmarkResult(batch_size, 1e3 * median, 1e3 * p95, batch_size / median)
