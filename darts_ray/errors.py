"""Every error a user can meet: what is wrong, where, and what to do about it.

The command line turns a `DartsError` into one message and the class's exit code: 2 when the
user's input is wrong (nothing has been started), 1 when a run failed.
"""

from __future__ import annotations

RUN_FAILED = 1
"""Exit code of a run that has started something before it failed."""


class DartsError(Exception):
    """Base of all errors that darts_ray raises on purpose; the message is meant for the user.

    Attributes:
        exit_code: by class; a study that has begun changes it to `RUN_FAILED`.
    """

    exit_code: int = RUN_FAILED


class ConfigError(DartsError):
    """A configuration, genotype, search space or command-line value is wrong."""

    exit_code = 2


class DataError(DartsError):
    """A dataset is missing, unreadable or does not fit the configuration."""

    exit_code = 2


class ResourceError(DartsError):
    """The machine or cluster cannot give what the configuration asks for."""

    exit_code = 2


class StudyError(DartsError):
    """A study folder is missing, belongs to another study or lacks an earlier stage's result."""

    exit_code = 2


class DamagedFileError(StudyError):
    """A file of a study is cut short or altered; what it said can be made anew from the trials."""


class TrackingError(DartsError):
    """A tracking server that was named in the configuration does not answer."""

    exit_code = 2


class StorageError(DartsError):
    """A storage does not answer, refuses or is full; what was written before is kept."""


class TrialsFailedError(DartsError):
    """So many trials of a stage failed that a study cannot go on."""


class NonFiniteLossError(DartsError):
    """A loss, an alpha or a weight became NaN or infinite; the message says when."""


class CheckpointError(DartsError):
    """A checkpoint or state dict does not fit the network, or cannot be read."""


class CheckpointFileError(CheckpointError):
    """A file that the user named as a trained network is none, or does not fit."""

    exit_code = 2


class ExportError(DartsError):
    """An exported network does not compute what the PyTorch network computes."""


class PredictionError(ExportError):
    """An exported file, or what it is given to predict, cannot be used."""

    exit_code = 2


class Terminated(KeyboardInterrupt):
    """SIGTERM came; treated as Ctrl-C, except for the exit code."""
