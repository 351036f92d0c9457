import pytest

from darts_ray.export import benchmark_onnx
from tests.export.conftest import Exported


def test_every_batch_size_is_timed(exported: Exported) -> None:
    results = benchmark_onnx(exported.path, batch_sizes=(1, 4), seconds=0.05, num_threads=1)
    assert [result.batch_size for result in results] == [1, 4]
    for result in results:
        assert 0 < result.median_ms <= result.p95_ms < 10_000
        # Throughput is batch size over the median latency.
        seconds = result.median_ms / 1e3
        assert result.images_per_second == pytest.approx(result.batch_size / seconds)
