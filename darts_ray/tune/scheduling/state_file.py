"""The file that keeps what a stage's scheduler and searcher know."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow.fs
from ray import cloudpickle
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from darts_ray.errors import CheckpointError
from darts_ray.location import with_patience
from darts_ray.tune.checkpoints import read_file, replace_file
from darts_ray.tune.trials.choosing import SharedChoices

STATE_FILE = "scheduling.pkl"
FORMAT = 1


@dataclass(frozen=True)
class KeptState:
    """What is kept of a stage's scheduling.

    Attributes:
        live: trials that a kept scheduler knows and has not stopped.
        waiting: those of them that it has paused.
        scheduler: the scheduler, pickled, with the trials' names in their place; None where it
            has none to keep.
        choices: the `SharedChoices` with its searcher, pickled; None likewise.
    """

    live: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()
    scheduler: bytes | None = None
    choices: bytes | None = None


@dataclass
class StateFile:
    """Where a stage's scheduling is kept.

    Attributes:
        fs: the storage.
        path: of the file there.
    """

    fs: pyarrow.fs.FileSystem
    path: str
    _written: bytes = field(default=b"", repr=False)

    def read(self) -> KeptState | None:
        """Return what is kept, or None.

        Raises:
            CheckpointError: the file is damaged, or of another version.
            StorageError: the storage fails.
        """
        try:
            content = with_patience(lambda: read_file(self.fs, self.path), self.path)
        except FileNotFoundError:
            return None
        values = self._unpickled(lambda: pickle.loads(content))
        if values.pop("format", None) != FORMAT:
            raise self.damaged("another version has written it")
        return KeptState(**values)

    def write(self, state: KeptState) -> None:
        """Replace what is kept, in one step.

        Raises:
            StorageError: the storage fails.
        """
        content = pickle.dumps({"format": FORMAT, **vars(state)})
        if content == self._written:
            return
        with_patience(lambda: replace_file(self.fs, self.path, content), self.path)
        self._written = content

    def choices(self, state: KeptState) -> SharedChoices | None:
        """Return the choices that are kept, or None.

        Raises:
            CheckpointError: they cannot be read.
        """
        pickled = state.choices
        if pickled is None:
            return None
        choices: SharedChoices = self._unpickled(lambda: cloudpickle.loads(pickled))
        return choices

    def scheduler(self, pickled: bytes, trial: Callable[[str], Any]) -> TrialScheduler:
        """Return a scheduler that is kept, with the trials of today in it.

        Args:
            pickled: of the kept state.
            trial: returns a trial by its name.

        Raises:
            CheckpointError: it cannot be read.
        """
        scheduler: TrialScheduler = self._unpickled(lambda: _Unpickler(pickled, trial).load())
        return scheduler

    def damaged(self, reason: str) -> CheckpointError:
        """Return the error that says why the file is of no use, and what to do."""
        return CheckpointError(
            f"{self.path}: what the scheduler and the searcher knew cannot be read ({reason})."
            " Resume with the versions of darts_ray, Ray and your own classes that wrote it; or"
            " delete the file, and they begin anew with the trials that have not ended."
        )

    def _unpickled(self, load: Any) -> Any:
        try:
            return load()
        except Exception as error:  # a pickle may raise whatever its classes raise
            raise self.damaged(f"{type(error).__name__}: {error}") from error


def to_bytes(value: Any) -> bytes:
    """Return an object pickled, with names in the place of trials; raises whatever it raises."""
    content = io.BytesIO()
    _Pickler(content).dump(value)  # type: ignore[no-untyped-call]
    return content.getvalue()


class _Pickler(cloudpickle.CloudPickler):
    def persistent_id(self, value: Any) -> str | None:
        """Write a trial as its name; everything else of it lies in its folder."""
        return str(value.trial_id) if isinstance(value, Trial) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, trial: Callable[[str], Any]) -> None:
        super().__init__(io.BytesIO(content))
        self._trial = trial

    def persistent_load(self, name: str) -> Any:
        """Return the trial of a name."""
        return self._trial(name)
