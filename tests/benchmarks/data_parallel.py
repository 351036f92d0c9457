"""Images per second of a data-parallel training on this machine, and how equal its results are.

python -m tests.benchmarks.data_parallel --workers 2 --threads 1
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from darts_ray.config import RetrainConfig
from darts_ray.data import ImageData, ImageInfo, ImageSplit
from darts_ray.runtime.workers import Workers
from darts_ray.train import RetrainRun

STEPS = 4
CPU = torch.device("cpu")


def _data() -> ImageData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (512, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (512,), generator=generator)
    info = ImageInfo(10, tuple("0123456789"), 3, (32, 32), (0.5,) * 3, (0.25,) * 3, 512, "random")
    return ImageData(info, ImageSplit(images, labels), lambda: ImageSplit(images, labels))


def _train(workers: Workers, rounds: int) -> dict[str, Any]:
    config = RetrainConfig.model_validate(
        {
            "network": {"channels": 16, "layers": 8, "auxiliary": True},
            "batch_size": 64,
            "max_steps": STEPS,
            "epochs": rounds,
            "sync_batch_norm": workers.several,
            "test_at_end": False,
            "device": "cpu",
        }
    )
    run = RetrainRun(config, _data(), CPU, workers)
    rows = [run.run_epoch() for _ in range(rounds)]
    return {
        "images_per_second": max(row["samples_per_second"] for row in rows[1:]),
        "losses": [row["train_loss"] for row in rows],
    }


def _work(rank: int, world: int, threads: int, rounds: int, folder: str) -> None:
    torch.set_num_threads(threads)
    if world > 1:
        place = f"file://{folder}/meeting"
        dist.init_process_group("gloo", init_method=place, rank=rank, world_size=world)
    result = _train(Workers(rank, world), rounds)
    if rank == 0:
        torch.save(result, f"{folder}/result.pt")
    if world > 1:
        dist.destroy_process_group()


def main() -> None:
    """Measure one worker and several, in turn, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--rounds", type=int, default=4, help="the best of them counts")
    arguments = parser.parse_args()
    alone: dict[str, Any] = {}
    for world in (1, arguments.workers):
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            given = (world, arguments.threads, arguments.rounds, folder)
            mp.spawn(_work, given, nprocs=world)  # type: ignore[no-untyped-call]
            result = torch.load(Path(folder) / "result.pt")
        alone = alone or result
        gaps = [abs(a / b - 1) for a, b in zip(result["losses"], alone["losses"], strict=True)]
        print(
            f"{world} worker(s), {arguments.threads} thread(s) each:"
            f" {result['images_per_second']:.1f} images/s, losses within {max(gaps):.1e} of one"
            f" worker's ({time.perf_counter() - started:.0f} s)"
        )


if __name__ == "__main__":
    main()
