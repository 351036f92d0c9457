"""When a language model's training begins to average its weights, and when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Convergence:
    """Watches the validation loss, epoch after epoch.

    Averaging begins after the first epoch whose loss exceeds the best one of all epochs but the
    last `asgd_patience` before it (non-monotonic trigger of Merity et al. 2017; in the original
    code `val_loss > min(best_val_loss[:-nonmono])`).

    Args:
        asgd_patience: see above; None never averages.
        stop_patience: training is over when so many epochs brought no new best loss; beginning
            to average starts the count anew. None never stops.
    """

    def __init__(self, asgd_patience: int | None, stop_patience: int | None) -> None:
        self._asgd_patience = asgd_patience
        self._stop_patience = stop_patience
        self._losses: list[float] = []
        self._epochs_without_best = 0
        self.averaging = False

    @property
    def over(self) -> bool:
        """Whether training should stop."""
        return self._stop_patience is not None and self._epochs_without_best >= self._stop_patience

    def add(self, loss: float) -> bool:
        """Note an epoch's validation loss and return whether it is the best so far."""
        is_best = not self._losses or loss < min(self._losses)
        self._epochs_without_best = 0 if is_best else self._epochs_without_best + 1
        if not self.averaging and self._asgd_patience is not None:
            earlier = self._losses[: -self._asgd_patience]
            if earlier and loss > min(earlier):
                self.averaging = True
                self._epochs_without_best = 0
        self._losses.append(loss)
        return is_best

    def add_failure(self) -> None:
        """Note an epoch that ended without a validation loss."""
        self._epochs_without_best += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the history as plain values."""
        return {
            "losses": list(self._losses),
            "epochs_without_best": self._epochs_without_best,
            "averaging": self.averaging,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._losses = list(state["losses"])
        self._epochs_without_best = int(state["epochs_without_best"])
        self.averaging = bool(state["averaging"])
