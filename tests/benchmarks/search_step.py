"""How long a bilevel step takes and how much memory, against the plain per-edge implementation.

    python -m tests.benchmarks.search_step --batch 16 --order first --repeats 3

Each side runs in processes of its own, in turns; the time is the median over all measured steps
and the memory the largest peak of a process (on a GPU: of allocated memory).
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
from darts_ray.nn.execution import keep_freed_memory
from darts_ray.search import BilevelStep
from tests.benchmarks.plain_step import PlainStep
from tests.reference.conv_supernet import ReferenceConvSupernet
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
        print(json.dumps(measure(arguments)))
        return
    sides = ["ours"] if arguments.ours_only else ["reference", "ours"]
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(arguments.repeats):
        for side in sides:
            runs[side].append(_run_in_process(side))
    result: dict[str, Any] = {
        "space": arguments.space,
        "order": arguments.order,
        "batch": arguments.batch,
        "precision": arguments.precision,
        "device": runs["ours"][0]["device"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    for side in sides:
        result[side] = {
            "step_seconds": statistics.median(t for run in runs[side] for t in run["seconds"]),
            "fastest_seconds": min(t for run in runs[side] for t in run["seconds"]),
            "peak_gigabytes": max(run["peak_gigabytes"] for run in runs[side]),
        }
    if len(sides) == 2:
        reference, ours = result["reference"], result["ours"]
        result["speedup"] = reference["step_seconds"] / ours["step_seconds"]
        result["memory_ratio"] = ours["peak_gigabytes"] / reference["peak_gigabytes"]
    print(json.dumps(result) if arguments.json else _table(result))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time steps of one side in this process."""
    device = torch.device(arguments.device)
    if arguments.side == "ours":
        keep_freed_memory()  # as every trial does
    torch.manual_seed(0)
    optim = SearchOptimConfig(
        order=arguments.order, **(RECURRENT if arguments.space == "recurrent" else {})
    )
    step = _make_step(arguments, optim, device)
    seconds = []
    for index in range(arguments.warmup + arguments.steps):
        train, valid = _batch(arguments, device), _batch(arguments, device)
        started = time.perf_counter()
        step.step(train, valid)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if index >= arguments.warmup:
            seconds.append(time.perf_counter() - started)
    if device.type == "cuda":
        peak, name = torch.cuda.max_memory_allocated(), torch.cuda.get_device_name()
    else:
        kilobyte = 1 if sys.platform == "darwin" else 1024
        peak, name = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte, "CPU"
    return {"seconds": seconds, "peak_gigabytes": peak / 1e9, "device": name}


def _make_step(
    arguments: argparse.Namespace, optim: SearchOptimConfig, device: torch.device
) -> BilevelStep | PlainStep:
    if arguments.space == "conv":
        supernet = ConvSupernet().to(device)
        if arguments.side == "ours":
            return BilevelStep(supernet, optim, precision=arguments.precision)
        return PlainStep(ReferenceConvSupernet(supernet).to(device), optim, clips=False)
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


def _run_in_process(side: str) -> dict[str, Any]:
    module = "tests.benchmarks.search_step"
    done = subprocess.run(
        [sys.executable, "-m", module, *sys.argv[1:], "--side", side],
        cwd=Path(__file__).parents[2],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
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
            f"  {result['speedup']:.2f} times faster, {result['memory_ratio']:.2f} of the memory"
        )
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", choices=("conv", "recurrent"), default="conv")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--order", choices=("first", "unrolled"), default="first")
    parser.add_argument("--steps", type=int, default=3, help="measured steps per process")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1, help="processes per side")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of our side"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ours-only", action="store_true", help="leave the reference out")
    parser.add_argument("--side", choices=("ours", "reference"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
