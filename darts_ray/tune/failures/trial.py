"""A Tune trial that knows which failures are worth another attempt."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from darts_ray.errors import StorageError
from darts_ray.tune.failures.causes import explain_failure, is_final, is_of_storage


class StudyTrial(Trial):
    """A trial whose failures end it at once where another attempt could only fail alike.

    The last failure is kept here, because Tune looks for it in the storage, to which nothing of
    Tune's own is written while a stage runs.

    Attributes:
        failure: the last one; None without any.
    """

    failure: BaseException | None = None

    def handle_error(self, exc: Any = None) -> None:
        """Count a failure; Tune calls this before it decides about another attempt."""
        super().handle_error(exc)
        self.failure = exc
        if is_final(exc):
            self.run_metadata.num_failures = self.max_failures + 1

    @property
    def error_text(self) -> str:
        """Why it failed, in one line."""
        return explain_failure(self.failure)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the failure, which need not be fit for a pickle."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        state.pop("failure", None)
        return state


class StorageGuard(Callback):
    """Ends a stage when its storage fails, instead of breaking one trial after the other.

    Attributes:
        error: what the storage said, once trying again has not helped; Tune hides what a callback
            raises in an error of its own.
    """

    def __init__(self) -> None:
        self.error: StorageError | None = None

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Raise what the storage said."""
        assert isinstance(trial, StudyTrial)
        if is_of_storage(trial.failure):
            _, _, message = trial.error_text.partition(": ")
            self.error = StorageError(f"Trial {trial.trial_id}: {message}")
            raise self.error
