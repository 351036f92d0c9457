"""One training spread over several worker processes, which a trial starts among its resources.

Not Ray Train's trainer: that keeps checkpoints, retries and results of its own, beside those by
which a study's trials go on. Its workers do what these do: DDP on `torch.distributed`.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import ray
import torch
import torch.distributed as dist
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from darts_ray.config import ExportSection, RetrainConfig
from darts_ray.data import ImageData, TextData, open_data
from darts_ray.errors import DartsError
from darts_ray.runtime.memory import keep_freed_memory
from darts_ray.runtime.workers import Workers
from darts_ray.tune.deployed import DeployedRun

OTHERS_WAIT_S = 5.0
"""How long after a first failure the others may take to show what was behind it."""

logger = logging.getLogger("darts_ray.tune")


class TrainingWorker:
    """One of the processes: a `RetrainRun` that goes step by step with the others'.

    Args:
        rank: of this worker.
        world: number of workers.
        num_threads: for PyTorch on the CPU.
    """

    def __init__(self, rank: int, world: int, num_threads: int) -> None:
        keep_freed_memory()
        torch.set_num_threads(num_threads)
        self._workers = Workers(rank, world)
        self._store: TCPStore | None = None
        self._data: ImageData | TextData | None = None
        self._config: RetrainConfig | None = None
        self._run: DeployedRun | None = None

    def host(self) -> tuple[str, int]:
        """Open the place where the workers meet; return its address and port."""
        address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        world = self._workers.world
        self._store = TCPStore(address, 0, world, is_master=True, wait_for_workers=False)
        return address, self._store.port

    def meet(self, address: str, port: int) -> None:
        """Join the others."""
        rank, world = self._workers.rank, self._workers.world
        if self._store is None:
            self._store = TCPStore(address, port, world, is_master=False)
        _name_interface()
        # of each tensor's device: a training may use the CPU although it was given a GPU
        backend = "cpu:gloo,cuda:nccl" if ray.get_gpu_ids() else "gloo"
        dist.init_process_group(backend, store=self._store, rank=rank, world_size=world)

    def open(self, config: RetrainConfig) -> None:
        """Open the data; those of the training before are kept where they serve."""
        if self._config is None or self._config.data != config.data:
            self._data = open_data(config.data)
        self._config = config

    def build(self, form: ExportSection | None) -> dict[str, int]:
        """Build the run, see `DeployedRun`; return the network's size."""
        assert self._config is not None
        assert self._data is not None
        gpu = bool(ray.get_gpu_ids())
        if gpu:
            torch.cuda.set_device(0)
        # a GPU that the trial was not given is not used
        device = None if gpu or self._config.device == "cuda" else torch.device("cpu")
        self._run = DeployedRun(self._config, self._data, device, self._workers, form)
        return self._run.describe() if not self._workers.rank else {}

    def run_epoch(self) -> dict[str, Any]:
        """Train for one epoch; see `RetrainRun.run_epoch`."""
        return self._built.run_epoch()

    def progress(self) -> tuple[int, bool]:
        """Return the epochs done, and whether they are all."""
        return self._built.epochs_done, self._built.finished

    def test(self) -> dict[str, float]:
        """Look at the test set; see `RetrainRun.test`."""
        return self._built.test()

    def state(self) -> bytes:
        """Return the run's state as a file's content, which any device can read."""
        buffer = io.BytesIO()
        torch.save(self._built.state_dict(), buffer)
        return buffer.getvalue()

    def load_state(self, content: bytes) -> None:
        """Go on where `state` was taken."""
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        self._built.load_state_dict(state)

    def network(self) -> bytes:
        """Return the content of a deployable network's file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.pt"
            self._built.save(path)
            return path.read_bytes()

    @property
    def _built(self) -> DeployedRun:
        assert self._run is not None
        return self._run


class WorkerGroup:
    """The worker processes of a trial, one in each bundle of its placement group.

    Args:
        bundles: what each worker gets, such as `{"CPU": 4, "GPU": 1}`.
    """

    def __init__(self, bundles: Sequence[dict[str, float]]) -> None:
        placement = ray.util.get_current_placement_group()
        assert placement is not None
        self._workers: list[Any] = []
        for rank, bundle in enumerate(bundles):
            place = PlacementGroupSchedulingStrategy(placement, placement_group_bundle_index=rank)
            cpus = bundle.get("CPU", 0)
            actor = ray.remote(TrainingWorker).options(
                num_cpus=cpus, num_gpus=bundle.get("GPU", 0), scheduling_strategy=place
            )
            self._workers.append(actor.remote(rank, len(bundles), max(1, int(cpus))))
        self.all("meet", *self.first("host"))

    def first(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker of rank 0."""
        return self._results([getattr(self._workers[0], method).remote(*arguments)])[0]

    def all(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every worker and return what they return, by rank.

        Raises:
            Exception: the first worker that failed; the others, which may wait for it for ever,
                are ended.
        """
        return self._results(
            [getattr(worker, method).remote(*arguments) for worker in self._workers]
        )

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []

    def _results(self, calls: list[Any]) -> list[Any]:
        pending = calls
        while pending:
            done, pending = ray.wait(pending)
            if (error := _failure_of(done[0])) is None:
                continue
            ray.wait(calls, num_returns=len(calls), timeout=OTHERS_WAIT_S)
            ended, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
            errors = [error, *filter(None, map(_failure_of, ended))]
            self.close()
            raise min(errors, key=_depth)
        return list(ray.get(calls))


class DataParallelRun:
    """What a `DeployedRun` is for a trial, computed by a group of workers.

    Args:
        config: the retraining.
        group: the workers.
        form: of the file that is tested with the network; None: there is no file.

    Raises:
        DartsError: as `RetrainRun`.
    """

    def __init__(
        self, config: RetrainConfig, group: WorkerGroup, form: ExportSection | None = None
    ) -> None:
        self._group = group
        group.all("open", config)
        self._size: dict[str, int] = group.all("build", form)[0]
        self.epochs_done, self.finished = 0, False

    def describe(self) -> dict[str, int]:
        """Return the network's size; see `RetrainRun.describe`."""
        return dict(self._size)

    def run_epoch(self) -> dict[str, Any]:
        """Train for one epoch; losses and scores are those of all workers."""
        metrics: dict[str, Any] = self._group.all("run_epoch")[0]
        self.epochs_done, self.finished = self._group.first("progress")
        return metrics

    def test(self) -> dict[str, float]:
        """Look at the test set once; see `RetrainRun.test`."""
        metrics: dict[str, float] = self._group.first("test")
        return metrics

    def save(self, path: str | Path) -> None:
        """Write the deployable network."""
        Path(path).write_bytes(self._group.first("network"))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the one training, which any number of workers can go on with."""
        content = self._group.first("state")
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let every worker go on where `state_dict` was taken."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self._group.all("load_state", ray.put(buffer.getvalue()))
        self.epochs_done, self.finished = self._group.first("progress")


def _failure_of(call: Any) -> BaseException | None:
    """Return what a finished call raised."""
    try:
        ray.get(call)
    except RayError as error:
        return error
    return None


def _depth(error: BaseException) -> int:
    """Order failures by how likely they are what the others only followed from."""
    if isinstance(error, DartsError):
        return 0
    return 1 if isinstance(error, RayActorError) else 2


def _name_interface() -> None:
    """Tell gloo to use the network that Ray's nodes reach each other by.

    It would take the one that the host's own name resolves to, often the loopback.
    """
    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    for name, addresses in psutil.net_if_addrs().items():
        if address in [entry.address for entry in addresses if entry.family == socket.AF_INET]:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            return
