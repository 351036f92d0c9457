"""What a trial's folder says about it: how far it came, how it ended, where to go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.fs

from darts_ray.location import child_location, with_patience
from darts_ray.tune.checkpoints import (
    TEST_ERROR,
    DamagedCheckpointError,
    check_sealed,
    checkpoint_index,
    list_checkpoints,
    read_config,
    read_file,
    read_history,
)
from darts_ray.tune.trials import TrialOutcome, TrialSpec

ENDING = "ending.json"
ATTEMPT = "attempt.json"
"""What a trial's latest attempt came to, for those who watch; a resume does not read it."""


@dataclass(frozen=True)
class TrialFolder:
    """A trial as its folder shows it.

    Attributes:
        checkpoints: paths of the whole checkpoint folders, oldest first.
        newest: number of the newest checkpoint folder, whole or not; -1 without any.
        damaged: how many checkpoints are newer than the newest whole one.
        broken: paths of all checkpoint folders that are not whole.
        history: metrics per epoch, up to the newest whole checkpoint.
        config: the values at that checkpoint; None without one.
        ended: whether the trial needs nothing more: it reached its last epoch, and its test if it
            has one did not fail; or a scheduler stopped it.
    """

    checkpoints: tuple[str, ...] = ()
    newest: int = -1
    damaged: int = 0
    broken: tuple[str, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    config: dict[str, Any] | None = None
    ended: bool = False

    @classmethod
    def read(cls, fs: pyarrow.fs.FileSystem, path: str) -> TrialFolder:
        """Read a trial's folder, which need not exist.

        Raises:
            StorageError: the storage fails; the folder may be whole.
        """
        every = list_checkpoints(fs, path)
        whole = tuple(folder for folder in every if _is_whole(fs, folder))
        broken = tuple(folder for folder in every if folder not in whole)
        newest = checkpoint_index(every[-1]) if every else -1
        if not whole:
            return cls(newest=newest, damaged=len(every), broken=broken)
        history = tuple(read_history(fs, whole[-1]))
        stopped = _read_ending(fs, path).get("stopped_after")
        last = history[-1] if history else {"done": False, "epoch": None, TEST_ERROR: ""}
        return cls(
            checkpoints=whole,
            newest=newest,
            damaged=len(every) - 1 - every.index(whole[-1]),
            broken=broken,
            history=history,
            config=read_config(fs, whole[-1]),
            ended=(last["done"] or last["epoch"] == stopped) and TEST_ERROR not in last,
        )

    def outcome(
        self, spec: TrialSpec, setting: str, config: Mapping[str, Any], error: str | None, uri: str
    ) -> TrialOutcome:
        """Return how the trial ended.

        Args:
            spec: the trial as planned.
            setting: as text.
            config: its final values, unless a checkpoint knows better.
            error: why it failed; None when it did not.
            uri: path or URI of the trial's folder.
        """
        checkpoint = None
        if self.checkpoints:
            name = self.checkpoints[-1].rpartition("/")[2]
            checkpoint = child_location(uri, name)
        if error is None and self.history and TEST_ERROR in self.history[-1]:
            error = (
                f"The network is trained and kept ({checkpoint}), but its test failed:"
                f" {self.history[-1][TEST_ERROR]} A resume repeats the test alone."
            )
        return TrialOutcome(
            name=spec.name,
            setting=setting,
            seed=spec.seed,
            config=dict(self.config or config),
            status="failed" if error is not None else "done",
            error=error,
            history=list(self.history),
            checkpoint=checkpoint,
            seconds=sum(float(epoch.get("seconds", 0.0)) for epoch in self.history),
        )


def _is_whole(fs: pyarrow.fs.FileSystem, folder: str) -> bool:
    try:
        check_sealed(fs, folder, content=False)
        read_history(fs, folder)
        read_config(fs, folder)
    except DamagedCheckpointError:
        return False
    return True


def _read_ending(fs: pyarrow.fs.FileSystem, path: str) -> dict[str, Any]:
    place = f"{path}/{ENDING}"
    try:
        ending = json.loads(with_patience(lambda: read_file(fs, place), place))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return {}
    return ending if isinstance(ending, dict) else {}
