"""How long a bilevel step takes and how much memory, against the plain per-edge implementation.

    python -m tests.benchmarks.search_step --batch 16 --order first --steps 5

Each side has a process of its own, and they take turns, step by step, so that a machine that is
slow for a while is slow for both. Times are medians over the steps, the speedup is the median of
the ratios within a turn, and the memory is the peak of the process (on a GPU: of allocated
memory).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts_ray.config import SearchOptimConfig
from darts_ray.nn import ConvSupernet, RecurrentSupernet
from darts_ray.runtime.memory import keep_freed_memory
from darts_ray.search import BilevelStep
from tests.benchmarks.plain_step import PlainStep
from tests.reference.recurrent_supernet import PlainRecurrentSupernet

VOCABULARY = 10_000  # words of Penn Treebank
SEQUENCE = 35  # tokens
RECURRENT = {
    "weight_lr": 20,
    "momentum": 0,
    "weight_decay": 5e-7,
    "grad_clip": 0.25,
    "alpha_lr": 3e-3,
    "alpha_betas": (0.9, 0.999),
}


def main() -> None:
    arguments = _arguments()
    if arguments.side:
        serve(arguments)
        return
    sides = ["ours"] if arguments.ours_only else ["reference", "ours"]
    processes = {side: _start(side) for side in sides}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for index in range(arguments.warmup + arguments.steps):
        for side in sides:
            taken = _ask(processes[side])
            if index >= arguments.warmup:
                seconds[side].append(taken)
    ends = {side: _end(processes[side]) for side in sides}
    result: dict[str, Any] = {
        "space": arguments.space,
        "order": arguments.order,
        "batch": arguments.batch,
        "precision": arguments.precision,
        "device": ends["ours"]["device"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    for side in sides:
        result[side] = {
            "step_seconds": statistics.median(seconds[side]),
            "fastest_seconds": min(seconds[side]),
            "peak_gigabytes": ends[side]["peak_gigabytes"],
        }
    if len(sides) == 2:
        ratios = [a / b for a, b in zip(seconds["reference"], seconds["ours"], strict=True)]
        result["speedup"] = statistics.median(ratios)
        result["slowest_speedup"], result["fastest_speedup"] = min(ratios), max(ratios)
        result["memory_ratio"] = (
            ends["ours"]["peak_gigabytes"] / ends["reference"]["peak_gigabytes"]
        )
    print(json.dumps(result) if arguments.json else _table(result))


def serve(arguments: argparse.Namespace) -> None:
    """Take one step of one side per line of standard input, and print its seconds."""
    device = torch.device(arguments.device)
    if arguments.side == "ours":
        keep_freed_memory()  # as every trial does
    torch.manual_seed(0)
    optim = SearchOptimConfig(
        order=arguments.order, **(RECURRENT if arguments.space == "recurrent" else {})
    )
    step = _make_step(arguments, optim, device)
    for _ in sys.stdin:
        train, valid = _batch(arguments, device), _batch(arguments, device)
        started = time.perf_counter()
        step.step(train, valid)
        if device.type == "cuda":
            torch.cuda.synchronize()
        print(time.perf_counter() - started, flush=True)
    if device.type == "cuda":
        peak, name = torch.cuda.max_memory_allocated(), torch.cuda.get_device_name()
    else:
        kilobyte = 1 if sys.platform == "darwin" else 1024
        peak, name = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte, "CPU"
    print(json.dumps({"peak_gigabytes": peak / 1e9, "device": name}))


def _make_step(
    arguments: argparse.Namespace, optim: SearchOptimConfig, device: torch.device
) -> BilevelStep | PlainStep:
    if arguments.space == "conv":
        supernet = ConvSupernet(fused=arguments.side == "ours").to(device)
        if arguments.side == "ours":
            return BilevelStep(
                supernet, optim, precision=arguments.precision, graphs=arguments.graphs
            )
        return PlainStep(supernet, optim, clips=False)
    if arguments.side == "ours":
        return BilevelStep(
            RecurrentSupernet(VOCABULARY).to(device), optim, precision=arguments.precision
        )
    network = PlainRecurrentSupernet(VOCABULARY, hidden=300).to(device)
    network.set_alphas(network.alphas["recurrent"].to(device))
    return PlainStep(network, optim, clips=True)


def _batch(arguments: argparse.Namespace, device: torch.device) -> tuple[Tensor, Tensor]:
    size = arguments.batch
    if arguments.space == "conv":
        return (
            torch.randn(size, 3, 32, 32, device=device),
            torch.randint(10, (size,), device=device),
        )
    tokens = torch.randint(VOCABULARY, (SEQUENCE + 1, size), device=device)
    return tokens[:-1], tokens[1:]


def _start(side: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.search_step", *sys.argv[1:], "--side", side],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(process: subprocess.Popen[str]) -> float:
    """Have a process take one step; return its seconds."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("step\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def _end(process: subprocess.Popen[str]) -> dict[str, Any]:
    rest, _ = process.communicate()
    result: dict[str, Any] = json.loads(rest)
    return result


def _table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['space']}, {result['order']} order, batch {result['batch']},"
        f" {result['precision']}, {result['device']}, {result['threads']} threads,"
        f" torch {result['torch']}"
    ]
    for side in ("reference", "ours"):
        if side in result:
            values = result[side]
            lines.append(
                f"  {side:9}  {values['step_seconds']:8.3f} s (fastest"
                f" {values['fastest_seconds']:.3f})  {values['peak_gigabytes']:6.2f} GB"
            )
    if "speedup" in result:
        lines.append(
            f"  {result['speedup']:.2f} times faster ({result['slowest_speedup']:.2f} to"
            f" {result['fastest_speedup']:.2f}), {result['memory_ratio']:.2f} of the memory"
        )
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", choices=("conv", "recurrent"), default="conv")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--order", choices=("first", "unrolled"), default="first")
    parser.add_argument("--steps", type=int, default=5, help="measured steps per side")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of our side"
    )
    parser.add_argument("--graphs", action="store_true", help="CUDA graphs on our side (conv)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ours-only", action="store_true", help="leave the reference out")
    parser.add_argument("--side", choices=("ours", "reference"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
