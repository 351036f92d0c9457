"""How fast the exported file runs on this machine's CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BenchmarkResult:
    """One batch size: latency of a call in milliseconds, and images per second."""

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
    """Time the network on random images, about `seconds` per batch size after a warm-up."""
    raise NotImplementedError
