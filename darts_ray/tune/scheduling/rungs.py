"""ASHA over a study that was interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler


class RememberingASHA(ASHAScheduler):
    """Judges trials by all that were judged before, in earlier runs of the study too.

    A rung holds each trial's score at its epoch, whatever the order in which they came, so the
    trials' own histories fill the rungs as if nothing had happened.

    Args:
        histories: metrics per epoch of each trial, by its name.
        values: of Tune's `ASHAScheduler`.
    """

    def __init__(
        self, histories: Mapping[str, Sequence[Mapping[str, Any]]], **values: Any
    ) -> None:
        super().__init__(**values)
        self._histories = dict(histories)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Fill the rungs before the first trial is judged, then take up the trial."""
        histories, self._histories = self._histories, {}
        for name, history in histories.items():
            earlier = SimpleNamespace(trial_id=name)
            super().on_trial_add(tune_controller, earlier)  # type: ignore[arg-type]
            for epoch in history:
                result = {**epoch, self._time_attr: epoch["epoch"]}
                self.on_trial_result(tune_controller, earlier, result)  # type: ignore[arg-type]
        super().on_trial_add(tune_controller, trial)
