"""A whole search as resumable epochs."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from darts_ray.config import SearchConfig, SearchOptimConfig
from darts_ray.data import ImageData, TextData
from darts_ray.errors import CheckpointError, ConfigError, NonFiniteLossError
from darts_ray.runtime.device import resolve_device
from darts_ray.runtime.losses import LossTrace
from darts_ray.runtime.memory import peak_memory_bytes, reset_peak_memory
from darts_ray.runtime.randomness import deterministic, rng_state, seed_everything, set_rng_state
from darts_ray.runtime.schedule import cosine
from darts_ray.search.bilevel import BilevelStep
from darts_ray.search.build import build_supernet
from darts_ray.search.feeds import open_feed
from darts_ray.search.spectrum import dominant_eigenvalue
from darts_ray.space import ConvGenotype, Genotype, softmax_alphas

_TUNABLE = ("weight_lr", "alpha_lr", "xi")


class SearchRun:
    """One search: the supernet, its batches, the bilevel steps and their schedule.

    Everything random follows from `config.seed`, except the split of the training data, which
    follows from `config.data.split_seed` and is the same for all trials of a study. The
    process's own random numbers are left alone: each run keeps its generators' states for
    itself, so runs that share a process cannot disturb each other.

    Args:
        config: the search.
        data: what `open_data(config.data)` returned.
        device: default: what `config.device` says.

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
    ) -> None:
        self.config = config
        self.device = device or resolve_device(config.device)
        self.epochs = config.epochs
        self.epochs_done = 0
        self._optim = config.optim
        self._feed = open_feed(config, data, self.device)
        outer = rng_state(self.device)
        try:
            seed_everything(config.seed)
            # initialised on the CPU, so a seed means the same network on every device
            self.supernet = build_supernet(config, data.info).to(self.device)
            self._rng = rng_state(self.device)
        finally:
            set_rng_state(outer, self.device)
        self._step = BilevelStep(
            self.supernet, config.optim, precision=config.precision, graphs=config.graphs
        )

    def run_epoch(self, on_step: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Train for one epoch, evaluate, derive.

        Args:
            on_step: called after each step with (steps done, steps in this epoch).

        Returns:
            plain values: `epoch` (epochs completed), `train_loss`, `valid_loss` (of the alpha
            batches), `validation_loss` and `validation_accuracy` (0 to 1) or
            `validation_perplexity` on the alphas' data, `weight_lr`, `grad_norm` (mean, before
            clipping), `seconds`, `samples_per_second` (training images or tokens, evaluation not
            counted), `peak_memory_bytes`, `genotype` (JSON), `alphas` (softmaxed, by cell kind);
            for conv also `num_skip` (skip connections in the normal cell); every
            `hessian_every` epochs `dominant_eigenvalue`.

        Raises:
            ConfigError: all epochs are done.
            NonFiniteLossError: a loss is NaN or infinite; the message names epoch and step. The
                run cannot go on; a checkpoint from before is not touched.
        """
        if self.epochs_done >= self.epochs:
            raise ConfigError(f"epochs: all {self.epochs} epochs of this search are done.")
        started = time.perf_counter()
        reset_peak_memory(self.device)
        with self._environment():
            metrics = self._train(on_step)
            metrics |= self._evaluate()
        if not math.isfinite(metrics["validation_loss"]):
            raise NonFiniteLossError(
                f"The validation loss became {metrics['validation_loss']} after epoch"
                f" {self.epochs_done + 1}; lower the learning rate, or continue from the last"
                " checkpoint."
            )
        self.epochs_done += 1
        # Derived after every epoch, the last included: a deliberate correction (6).
        genotype = self.genotype()
        metrics |= {
            "epoch": self.epochs_done,
            "seconds": time.perf_counter() - started,
            "peak_memory_bytes": peak_memory_bytes(self.device),
            "genotype": genotype.to_json(),
            "alphas": self.alphas(),
        }
        if isinstance(genotype, ConvGenotype):
            normal = [edge.primitive for edge in genotype.normal]
            metrics["num_skip"] = normal.count("skip_connect")
        return metrics

    def genotype(self) -> Genotype:
        """Return the architecture that the current alphas stand for."""
        return self.supernet.genotype()

    def alphas(self) -> dict[str, list[list[float]]]:
        """Return the softmaxed alphas by cell kind, (num_edges, num_primitives) each."""
        return {
            cell: softmax_alphas(alphas).tolist() for cell, alphas in self.supernet.alphas.items()
        }

    def set_hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Change `weight_lr`, `alpha_lr` or `xi` in mid-run, as population based training does.

        `weight_lr` is the start of the cosine schedule, which goes on at the present epoch; its
        lower end comes down where it would be above, and follows a constant schedule.

        Args:
            values: the new values, at the top level or under the key `optim`.

        Raises:
            ConfigError: an unknown key, or a value out of range.
        """
        flat = {key: value for key, value in values.items() if key != "optim"}
        flat |= values.get("optim", {})
        unknown = sorted(set(flat) - set(_TUNABLE))
        if unknown:
            raise ConfigError(
                f"Only {', '.join(_TUNABLE)} can change in mid-run, not {', '.join(unknown)}."
            )
        given = self.config.optim
        merged = {**self._optim.model_dump(), **flat}
        try:
            rate = float(merged["weight_lr"])
            constant = given.weight_lr_min == given.weight_lr
            merged["weight_lr_min"] = rate if constant else min(given.weight_lr_min, rate)
            self._optim = SearchOptimConfig.model_validate(merged)
        except (TypeError, ValueError) as error:  # pydantic's ValidationError is a ValueError
            raise ConfigError(f"A changed hyperparameter is out of range: {error}") from error
        self._step.alpha_lr = self._optim.alpha_lr
        self._step.xi = self._optim.xi

    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot from which a run with the same configuration goes on.

        It holds the supernet with its alphas, both optimisers, the epoch (which is the state of
        the schedule), all generators, the streams' positions and the carried hidden states, as
        tensors and plain values only. Hyperparameters are not in it: they come from the
        configuration, or from `set_hyperparameters`.
        """
        return copy.deepcopy(
            {
                "epochs_done": self.epochs_done,
                "supernet": dict(self.supernet.state_dict()),
                "step": self._step.state_dict(),
                "feed": self._feed.state_dict(),
                "rng": self._rng,
            }
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; on the CPU bit for bit.

        Raises:
            CheckpointError: the state is of another search.
        """
        missing = sorted({"epochs_done", "supernet", "step", "feed", "rng"} - set(state))
        if missing:
            raise CheckpointError(f"The checkpoint is not of a search: {missing} are missing.")
        try:
            self.supernet.load_state_dict(state["supernet"])
            self._step.load_state_dict(state["step"])
            self._feed.load_state_dict(state["feed"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit this configuration: {error}"
            ) from error
        self._rng = copy.deepcopy(state["rng"])
        self.epochs_done = int(state["epochs_done"])

    def _train(self, on_step: Callable[[int, int], None] | None) -> dict[str, Any]:
        epoch = self.epochs_done + 1
        optim = self._optim
        rate = cosine(optim.weight_lr, optim.weight_lr_min, self.epochs_done, self.epochs)
        # Looking at a loss makes a GPU wait; a CPU has it at hand.
        interval = 1 if self.device.type == "cpu" else 32
        train, valid, norms = (
            LossTrace(name, epoch, interval)
            for name in ("training loss", "validation loss of the alpha step", "gradient norm")
        )
        self._step.reset_state()
        self.supernet.train()
        steps = len(self._feed)
        samples = 0
        started = time.perf_counter()
        for done, batches in enumerate(self._feed.epoch(), start=1):
            self._step.weight_lr = rate * batches.lr_scale
            result = self._step.step(batches.train, batches.valid)
            # the alpha step comes first, so its loss is the first to show that all is lost
            valid.add(result.valid_loss)
            train.add(result.train_loss, batches.samples)
            norms.add(result.grad_norm)
            samples += batches.samples
            if on_step is not None:
                on_step(done, max(done, steps))
        metrics = {
            "valid_loss": valid.mean(),
            "train_loss": train.mean(),
            "grad_norm": norms.mean(),
            "weight_lr": rate,
        }
        # the means have waited for the device, so the clock is right
        metrics["samples_per_second"] = samples / (time.perf_counter() - started)
        return metrics

    def _evaluate(self) -> dict[str, Any]:
        self.supernet.eval()
        # Other batch sizes and no gradients are not worth the minutes of compiling once more;
        # without `compile` the compiler is not even imported, which takes seconds.
        compiled = self.config.compile
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            metrics: dict[str, Any] = self._feed.evaluate(self.supernet)
        every = self.config.hessian_every
        if every and (self.epochs_done + 1) % every == 0:
            batch = self._feed.probe()
            metrics["dominant_eigenvalue"] = dominant_eigenvalue(self.supernet, batch)
        return metrics

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """Use this run's random numbers and determinism; leave the process as it was."""
        outer = rng_state(self.device)
        set_rng_state(self._rng, self.device)
        try:
            with deterministic(self.config.deterministic):
                yield
            self._rng = rng_state(self.device)
        finally:
            set_rng_state(outer, self.device)
