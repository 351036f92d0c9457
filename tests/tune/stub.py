"""A search without a network: everything around it is real, and an epoch costs nothing.

Files in the folder of `data.cache_dir` tell it what to do, and it notes there what it did.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from darts_ray.config import SearchConfig, StudyConfig, build_config
from darts_ray.space import zoo
from darts_ray.tune import SearchTrainable, TrialSpec

ALPHAS = {cell: [[1 / 8] * 8] * 14 for cell in ("normal", "reduce")}
"""Softmaxed and undecided, of the DARTS space."""


class StubRun:
    """Draws its metrics from a generator whose state is all it has."""

    def __init__(self, config: SearchConfig, *, log: bool = True) -> None:
        self.config = config
        self.epochs = config.epochs
        self.epochs_done = 0
        self._random = random.Random(config.seed)
        self._total = 0.0
        self._log = log
        self._folder = Path(str(config.data.cache_dir))

    @property
    def finished(self) -> bool:
        return self.epochs_done >= self.epochs

    def run_epoch(self) -> dict[str, Any]:
        epoch, seed = self.epochs_done + 1, self.config.seed
        if self._log:
            self._obey(epoch, seed)
        self._total += self._random.random() * self.config.optim.weight_lr
        self.epochs_done = epoch
        return {
            "epoch": epoch,
            "train_loss": 1 / (1 + self._total),
            "validation_accuracy": self._total / (1 + self._total),
            "weight_lr": self.config.optim.weight_lr,
            "alphas": ALPHAS,
            "genotype": zoo["DARTS_V2"].to_json(),
        }

    def _obey(self, epoch: int, seed: int) -> None:
        with (self._folder / f"epochs-{seed}").open("a") as log:
            log.write(f"{epoch} {os.getpid()}\n")
        kill = self._folder / f"kill-{seed}-{epoch}"
        if kill.exists():
            kill.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if (self._folder / f"fail-{seed}").exists():
            raise ValueError(f"seed {seed} always fails")
        pause = self._folder / "pause"
        if pause.exists():
            time.sleep(float(pause.read_text()))
        while (self._folder / "hold").exists():
            time.sleep(0.05)

    def state_dict(self) -> dict[str, Any]:
        state = (self.epochs_done, self._random.getstate(), self._total)
        return {"stub": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs_done, generator, self._total = state["stub"]
        self._random.setstate(generator)


class StubTrainable(SearchTrainable):
    def _build(self, config: SearchConfig, data: Any, device: Any) -> Any:
        return StubRun(config)


def stub_study(folder: Path, *, epochs: int = 4, **sections: Any) -> StudyConfig:
    search = {"epochs": epochs, **sections.pop("search", {})}
    data = {"source": "digits", "max_train": 100, "cache_dir": str(folder)}
    values = {"name": "stub", "data": data, "search": search, **sections}
    return build_config(values, "stub")


def stub_trials(study: StudyConfig, seeds: int, **setting: Any) -> list[TrialSpec]:
    first = {name: axis.values[0] for name, axis in study.search_axes().items()}
    return [
        TrialSpec(
            name=f"search-{seed:03d}",
            config=study.search_config({**first, **setting}, seed).model_dump(mode="json"),
            setting="-",
            seed=seed,
        )
        for seed in range(seeds)
    ]


def epochs_run(folder: Path, seed: int) -> list[int]:
    """Return the epochs that a trial ran, repeated ones included, in order."""
    log = folder / f"epochs-{seed}"
    return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []
