"""What a step of each method costs relative to first-order DARTS, and NAS-Bench-201's fused edges.

    python -m tests.benchmarks.methods                         # all sides, batch 64, 3 turns
    python -m tests.benchmarks.methods --sides darts gdas --threads 1 --turns 5
    python -m tests.benchmarks.methods --sides nasbench201_plain nasbench201

The first side is what the others are relative to. Each has a process of its own, and they take
turns, step by step, so that a machine that is slow for a while is slow for all. Ratios are medians
of those within a turn: of wall time, and of the processor time of the process, which says more
while other programs compete for the cores (of one thread; several also wait for each other).
Memory is the peak of the process, libraries included, and what its steps added to it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from darts_ray.config import SearchOptimConfig
from darts_ray.runtime.memory import keep_freed_memory
from darts_ray.search import BilevelStep, methods
from darts_ray.search.parts import Progress

GOALS: dict[str, tuple[float, float | None]] = {
    # time and memory
    "pc_darts": (0.4, 0.4),
    "gdas": (0.3, 0.3),
    "random_ws": (0.3, 0.3),
    "sdarts": (1.1, None),
    "darts_minus": (1.1, None),
    "beta_darts": (1.1, None),
    "fair_darts": (1.1, None),
    "nasbench201": (1 / 2.5, 0.5),
}
"""Of each side, against `darts`; of `nasbench201` against `nasbench201_plain`."""


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        _serve(arguments)
        return
    processes = {side: _start(side) for side in arguments.sides}
    times: dict[str, list[list[float]]] = {side: [] for side in processes}
    for turn in range(arguments.warmup + arguments.turns):
        for side, process in processes.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("step\n")
            process.stdin.flush()
            taken = json.loads(process.stdout.readline())
            if turn >= arguments.warmup:
                times[side].append(taken)
            print(f"turn {turn}, {side}: {taken}", file=sys.stderr, flush=True)
    memory = {side: json.loads(process.communicate()[0]) for side, process in processes.items()}
    load = os.getloadavg()[0]
    print(
        f"batch {arguments.batch}, {arguments.threads} threads, {arguments.turns} turns, load"
        f" {load:.1f} of {os.cpu_count()} cores, torch {torch.__version__}"
    )
    base = arguments.sides[0]
    for side in arguments.sides:
        wall, cpu = (_ratio(times[side], times[base], column) for column in (0, 1))
        whole, added = (memory[side][i] / memory[base][i] for i in (0, 1))
        seconds = statistics.median(t[0] for t in times[side])
        goal = f"   goal {GOALS[side][0]:.2f} / {GOALS[side][1] or '-'}" if side in GOALS else ""
        print(
            f"{side:18} {seconds:7.2f} s  wall {wall}  cpu {cpu}  memory"
            f" {memory[side][0]:.2f} GB ({whole:.2f}; of the steps alone {added:.2f}){goal}"
        )


def _ratio(ours: list[list[float]], base: list[list[float]], column: int) -> str:
    ratios = [a[column] / b[column] for a, b in zip(ours, base, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _serve(arguments: argparse.Namespace) -> None:
    """Take one step per line of standard input; print wall and processor seconds."""
    keep_freed_memory()  # as every trial does
    torch.manual_seed(0)
    step = _make_step(arguments)
    batches = [
        (torch.randn(arguments.batch, 3, 32, 32), torch.randint(10, (arguments.batch,)))
        for _ in range(2)
    ]
    before = _peak()
    for _ in sys.stdin:
        started = time.perf_counter(), time.process_time()
        step.step(*batches)
        taken = [time.perf_counter() - started[0], time.process_time() - started[1]]
        print(json.dumps(taken), flush=True)
    print(json.dumps([_peak(), _peak() - before]))


def _make_step(arguments: argparse.Namespace) -> BilevelStep:
    method, sizes = arguments.side, {"layers": arguments.layers}
    if method.startswith("nasbench201"):
        sizes = {
            "space": "nasbench201",
            "layers": 3 * arguments.cells,
            "fused": method == "nasbench201",
        }
        method = "darts"
    supernet = methods.supernet(method, channels=16, **sizes)
    step = BilevelStep(supernet, SearchOptimConfig(), method)
    step.progress = Progress(20, 50)
    step.alpha_step = method != "random_ws"
    step.method.set_ramps(supernet, step.progress)
    return step


def _peak() -> float:
    """Return the peak of the process in GB."""
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte / 1e9


def _start(side: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.methods", *sys.argv[1:], "--side", side],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", nargs="+", default=["darts", *list(GOALS)[:-1]])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--layers", type=int, default=8, help="cells of the space of DARTS")
    parser.add_argument("--cells", type=int, default=5, help="N of nasbench201")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--side", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
