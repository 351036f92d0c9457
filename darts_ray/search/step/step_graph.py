"""A whole bilevel step as one CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from darts_ray.errors import ConfigError
from darts_ray.nn.supernet import Batch

Tensors = tuple[Tensor, ...]


class Recorder(Protocol):
    """Runs a step, or records it so that it can be repeated."""

    def run(self, step: Callable[[], Tensors]) -> Tensors:
        """Run once, in the way in which it will be recorded."""

    def record(self, step: Callable[[], Tensors]) -> Callable[[], Tensors]:
        """Return what repeats the step on the same memory; nothing has been computed yet."""

    def random_state(self) -> Tensor:
        """Return the state of the device's random number generator."""


@dataclass
class _Recorded:
    key: Hashable
    inputs: Tensors
    repeat: Callable[[], Tensors]


class StepGraph:
    """Records a step after some that ran normally, and replays it from then on.

    A step at paper size is thousands of small kernels, and on a GPU the host needs longer to
    launch them than the device to compute them. A graph launches them all at once. It is fixed
    to the memory, shapes and numbers it was recorded with, hence:

    * batches are copied into the recorded ones; a batch of another shape, such as the last of an
      epoch, runs normally;
    * where a number has changed, such as the learning rate of a new epoch, the step is recorded
      again, which takes about as long as a normal step;
    * `forget` must be called when the memory of weights or optimiser states was replaced;
    * steps that draw random numbers on the device or carry a state are refused, as a replay
      would repeat the numbers and the state.

    Args:
        step: computes on a training and a validation batch, never waits for the device, and
            returns 0-dim tensors.
        recorder: records and runs.
    """

    NUM_NORMAL = 3
    """Steps before recording: optimisers allocate their states, cuDNN chooses its kernels."""

    def __init__(self, step: Callable[[Batch, Batch], Tensors], recorder: Recorder) -> None:
        self._step = step
        self._recorder = recorder
        self._shapes: Hashable = None
        self._num_normal = 0
        self._recorded: _Recorded | None = None

    def __call__(self, train_batch: Batch, valid_batch: Batch, numbers: Hashable) -> Tensors:
        """Compute one step, normally or by replay.

        Args:
            train_batch: as of the step.
            valid_batch: as of the step.
            numbers: every Python number that the step depends on and that may change.

        Raises:
            ConfigError: the step draws random numbers.
        """
        inputs = (*train_batch, *valid_batch)
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if self._shapes is None:
            self._shapes = shapes
        if shapes != self._shapes:
            return self._run_normally(train_batch, valid_batch)
        if self._num_normal < self.NUM_NORMAL:
            self._num_normal += 1
            return self._run_normally(train_batch, valid_batch)
        if self._recorded is None or self._recorded.key != numbers:
            self._record(inputs, numbers)
        assert self._recorded is not None
        for recorded, given in zip(self._recorded.inputs, inputs, strict=True):
            recorded.copy_(given)
        # cloned, because the next replay writes to the same memory
        return tuple(tensor.clone() for tensor in self._recorded.repeat())

    def forget(self) -> None:
        """Drop the recording; the next steps run normally again."""
        self._recorded = None
        self._num_normal = 0

    def _run_normally(self, train_batch: Batch, valid_batch: Batch) -> Tensors:
        before = self._recorder.random_state()
        result = self._recorder.run(lambda: self._step(train_batch, valid_batch))
        if not torch.equal(before, self._recorder.random_state()):
            raise ConfigError(
                "graphs: this network draws random numbers in a step, and a CUDA graph would"
                " repeat the same ones; set graphs: false."
            )
        return result

    def _record(self, inputs: Tensors, numbers: Hashable) -> None:
        held = self._recorded.inputs if self._recorded else tuple(map(torch.clone, inputs))
        # why: its memory must be free before the next recording asks for as much
        self._recorded = None
        train_images, train_targets, valid_images, valid_targets = held
        repeat = self._recorder.record(
            lambda: self._step((train_images, train_targets), (valid_images, valid_targets))
        )
        self._recorded = _Recorded(numbers, held, repeat)


class CudaRecorder:
    """Records into CUDA graphs that share one pool of memory.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Recording needs a stream of its own, and what PyTorch sets up per stream has to be
        # there before it begins.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, step: Callable[[], Tensors]) -> Tensors:
        """Run on the stream that recordings are made on."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            # Adam is told that it will be captured, and complains when it is not
            warnings.filterwarnings("ignore", message=".*capturable=True")
            result = step()
        current.wait_stream(self._stream)
        for tensor in result:
            tensor.record_stream(current)
        return result

    def record(self, step: Callable[[], Tensors]) -> Callable[[], Tensors]:
        """Capture the step."""
        graph = torch.cuda.CUDAGraph()
        # why: with "global" a loader's thread that pins memory would break the capture
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            result = step()

        def repeat() -> Tensors:
            graph.replay()
            return result

        return repeat

    def random_state(self) -> Tensor:
        """Return the state of the GPU's generator, which the host keeps."""
        return torch.cuda.get_rng_state(self._device)
