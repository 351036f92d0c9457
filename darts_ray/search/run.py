"""A whole search as resumable epochs."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from darts_ray.config import SearchConfig
from darts_ray.data import ImageData, TextData
from darts_ray.errors import CheckpointError, ConfigError
from darts_ray.runtime.device import resolve_device
from darts_ray.runtime.memory import peak_memory_bytes, reset_peak_memory
from darts_ray.runtime.randomness import OwnRandomness, deterministic
from darts_ray.search.batches import open_batches
from darts_ray.search.build import build_supernet, set_drop_path
from darts_ray.search.deriving.by_strength import ByStrength
from darts_ray.search.epoch import Epoch
from darts_ray.search.evaluating import describe_cell, evaluate, measure_curvature
from darts_ray.search.methods import MethodLike, methods
from darts_ray.search.recording import Recorder
from darts_ray.search.schedule import Schedule
from darts_ray.search.snapshot import FORMAT, check_belongs, source_of
from darts_ray.search.step.bilevel import BilevelStep
from darts_ray.search.step.relaxing import relaxed_weights
from darts_ray.search.stopping import EigenvalueStopper
from darts_ray.space import Genotype


class SearchRun:
    """One search: the supernet, its batches, the bilevel steps and their schedule.

    What a search is made of is in the first lines of the constructor, part by part; a method
    replaces some of them.

    Everything random follows from `config.seed`, except the split of the training data, which
    follows from `config.data.split_seed` and is the same for all trials of a study. The
    process's own random numbers are left alone: each run keeps its generators' states for
    itself, so runs that share a process cannot disturb each other.

    Attributes:
        method: its parts.
        supernet: in training or evaluation mode, whatever came last.
        batches: where its data come from.
        epochs: of all phases.
        epochs_done: so far; a rollback takes it back.

    Args:
        config: the search.
        data: what `open_data(config.data)` returned.
        device: default: what `config.device` says.
        method: instead of `config.method`, for example a `Method` of one's own.

    Raises:
        ConfigError: the network does not fit the data, or options contradict each other or the
            device.
        DataError: a split is empty or smaller than a batch, or a target is out of range.
        ResourceError: `device: cuda` without a GPU.
    """

    def __init__(
        self,
        config: SearchConfig,
        data: ImageData | TextData,
        device: torch.device | None = None,
        *,
        method: MethodLike | None = None,
    ) -> None:
        self.config = config
        self.device = device or resolve_device(config.device)
        self.method = methods.make(config.method if method is None else method)
        self.batches = open_batches(config, data, self.device)
        self._randomness = OwnRandomness(config.seed, self.device)
        with self._randomness.used():
            # initialised on the CPU, so a seed means the same network on every device
            self.supernet = build_supernet(config, data.info, self.method).to(self.device)
        self._step = BilevelStep(
            self.supernet, config.optim, self.method,
            precision=config.precision, graphs=config.graphs,
        )  # fmt: skip
        self._schedule = Schedule(self.method.phases(config.epochs, self.supernet.space))
        self._derivation = self.method.derivation() if self.method.derivation else ByStrength()
        self._stopper = EigenvalueStopper(config.early_stop) if config.early_stop else None
        self._recorder = Recorder(self._stopper)

        self.epochs = self._schedule.epochs
        self.epochs_done = 0
        self._source = source_of(config, data)
        self._epoch: Epoch | None = None

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do: all epochs are done, or a rule ended the search."""
        return self.epochs_done >= self.epochs or self._recorder.result is not None

    def run_epoch(self, on_step: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Train for one epoch, evaluate, derive: `begin_epoch`, all of `step`, `end_epoch`.

        Args:
            on_step: called after each step with (steps done, steps in this epoch).

        Returns:
            plain values: `epoch` (epochs completed), `train_loss`, `valid_loss` (of the alpha
            batches; not in a warm-up), `validation_loss` and `validation_accuracy` (0 to 1) or
            `validation_perplexity` on the alphas' data, `weight_lr`, `grad_norm` (mean, before
            clipping), `seconds`, `samples_per_second` (training images or tokens, evaluation not
            counted), `peak_memory_bytes`, `genotype` (JSON), `alphas` (relaxed as the method
            defines it, by cell; what else a method learns, such as `beta_normal`, by its name);
            for conv also `num_skip` (skip connections in the first cell); these and `genotype` at
            the end only where the method trains no alphas; every `hessian_every` epochs
            `dominant_eigenvalue`; with `early_stop` `signed_eigenvalue`, and `stopped_at`
            or `rolled_back_to` (epochs completed) where the rule acts; what a method measures.

        Raises:
            ConfigError: all epochs are done.
            NonFiniteLossError: a loss is NaN or infinite; the message names epoch and step. The
                run cannot go on; a checkpoint from before is not touched.
        """
        with self._environment():
            self.begin_epoch()
            while self.step():
                if on_step is not None:
                    on_step(*self.steps)
            return self.end_epoch()

    @property
    def steps(self) -> tuple[int, int]:
        """Steps done and steps in all of the epoch that runs; (0, 0) between epochs."""
        if self._epoch is None:
            return 0, 0
        return self._epoch.steps_done, max(self._epoch.steps_done, len(self.batches))

    def begin_epoch(self) -> None:
        """Start an epoch: set the ramps, and let the method decide what it decides in between.

        Raises:
            ConfigError: all epochs are done, or one is running.
        """
        if self.finished:
            raise ConfigError(f"epochs: all {self.epochs} epochs of this search are done.")
        if self._epoch is not None:
            raise ConfigError("begin_epoch: the epoch before has not ended.")
        reset_peak_memory(self.device)
        position = self._schedule.at(self.epochs_done)
        rate = position.weight_lr(self.config.optim)
        if position.phase.resets and position.epoch == 0:
            self._step.reset_weight_optimizer()
        self._step.progress = position.progress
        self._step.alpha_step = position.phase.alpha_step
        self._step.weight_decay = self._recorder.weight_decay or self.config.optim.weight_decay
        self.method.set_ramps(self.supernet, position.progress)
        if self.config.drop_path.probability:
            set_drop_path(
                self.supernet, self.config.drop_path.probability * position.progress.ramp
            )
            self.batches.erase(position.progress.ramp)
        self._step.reset_state()
        with self._environment():
            epoch = Epoch(self.epochs_done + 1, position, rate, self.batches.epoch(), self.device)
            self.supernet.train()
            epoch.metrics |= self._derivation.begin_epoch(self, position.phase, position.epoch)
            self.supernet.train()
        self._epoch = epoch

    def step(self) -> bool:
        """Do one bilevel step; return whether there was one to do.

        Raises:
            ConfigError: no epoch is running.
            NonFiniteLossError: as `run_epoch`.
        """
        epoch = self._running()
        with self._environment():
            batches = epoch.next()
            if batches is None:
                return False
            valid = batches.train if self.method.single_level else batches.valid
            self._step.weight_lr = epoch.weight_lr * batches.lr_scale
            epoch.add(self._step.step(batches.train, valid), batches)
        return True

    def end_epoch(self) -> dict[str, Any]:
        """Evaluate, derive, and decide whether the search goes on; return the epoch's metrics.

        Raises:
            ConfigError: no epoch is running.
            NonFiniteLossError: as `run_epoch`.
        """
        epoch = self._running()
        metrics = epoch.metrics | epoch.summary()
        with self._environment():
            progress = epoch.position.progress
            if self._recorder.measures(self.epochs_done, self.epochs):
                metrics |= measure_curvature(self, epoch.last_valid, progress)
            metrics |= evaluate(self, progress)
            self._epoch = None
            self.epochs_done += 1
            if self.epochs_done == self.epochs:
                metrics |= self._derivation.end_search(self)
        metrics |= {
            "epoch": self.epochs_done,
            "seconds": time.perf_counter() - epoch.started,
            "peak_memory_bytes": peak_memory_bytes(self.device),
            "alphas": self.alphas(),
        }
        # Derived after every epoch, the last included: a deliberate correction (6).
        metrics |= self._recorder.observe(self, metrics.get("signed_eigenvalue"))
        return metrics | describe_cell(self)

    def genotype(self) -> Genotype:
        """Return the architecture that the search stands for at present."""
        return self._recorder.result or self._derivation.genotype(self)

    def alphas(self) -> dict[str, list[Any]]:
        """Return the relaxed weights by cell, (num_edges, num_primitives) each.

        A method's further parameters, such as one beta per edge, are relaxed by the method as
        well, where it says how, and have their own names.
        """
        return relaxed_weights(self.method, self.supernet)

    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot from which a run with the same configuration goes on.

        It holds the supernet with its alphas, both optimisers, the epoch (which is the state of
        the schedule), all generators, the streams' positions, the carried hidden states, and what
        the method and the stopping rule have decided, as tensors and plain values only.
        Hyperparameters are not in it: they come from the configuration.

        Raises:
            ConfigError: an epoch is running; what a step has measured is not in a snapshot.
        """
        if self._epoch is not None:
            raise ConfigError("state_dict: call end_epoch first; a state is taken between epochs.")
        return copy.deepcopy(
            {
                "format": FORMAT,
                "method": self.method.name,
                "source": self._source,
                "epochs_done": self.epochs_done,
                "supernet": dict(self.supernet.state_dict()),
                "step": self._step.state_dict(),
                "feed": self.batches.state_dict(),
                "rng": self._randomness.state,
                "derivation": self._derivation.state_dict(),
                "recorder": self._recorder.state_dict(),
            }
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; on the CPU bit for bit.

        Raises:
            CheckpointError: the state is of another search, other data, or a later version.
        """
        check_belongs(state, self.method.name, self._source)
        try:
            self.supernet.load_state_dict(state["supernet"])
            self._step.load_state_dict(state["step"])
            self.batches.load_state_dict(state["feed"])
            if state.get("format", 1) > 1:
                self._derivation.load_state_dict(state["derivation"])
                self._recorder.load_state_dict(state["recorder"])
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit this configuration: {error}"
            ) from error
        self._randomness.state = copy.deepcopy(state["rng"])
        self.epochs_done = int(state["epochs_done"])
        self._epoch = None

    def trained_state(self) -> dict[str, Any]:
        """Return what an early-stopping rule returns to: the weights, alphas and optimisers."""
        return {"supernet": dict(self.supernet.state_dict()), "step": self._step.state_dict()}

    def return_to(self, state: Mapping[str, Any], epochs_done: int) -> None:
        """Go back to an earlier `trained_state`; data and random numbers go on."""
        self.supernet.load_state_dict(state["supernet"])
        self._step.load_state_dict(state["step"])
        self.epochs_done = epochs_done

    def _running(self) -> Epoch:
        if self._epoch is None:
            raise ConfigError("No epoch is running: call begin_epoch first.")
        return self._epoch

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """Use this run's random numbers and determinism; leave the process as it was."""
        with self._randomness.used(), deterministic(self.config.deterministic):
            yield
