"""When a search ends early: RobustDARTS's rule on the dominant eigenvalue (Zela et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from darts_ray.config.robustness import EarlyStopConfig
from darts_ray.search.parts import Go, Rollback, Stop

_RULE = EarlyStopConfig()


def stop_epoch(eigenvalues: Sequence[float], rule: EarlyStopConfig = _RULE) -> int | None:
    """Return the epoch whose genotype the rule returns; None: it never stops the search.

    Args:
        eigenvalues: signed, of the epochs 0, 2, 4 and so on (`rule.every`), and of the last epoch.
            The last one is never judged.
        rule: its constants.
    """
    for num in range(1, len(eigenvalues)):
        if (found := _judge(eigenvalues[:num], rule)) is not None:
            return found
    return None


def _judge(eigenvalues: Sequence[float], rule: EarlyStopConfig) -> int | None:
    """Return where to stop after the last of these measurements, or None.

        la_i = mean of the `window` measurements up to i
        stop if la_i / la_(i - delta) > factor, at epoch every * (i - window // 2 - delta)

    While there are fewer measurements than the window, but more than half of it, the mean is of
    all. No epoch before `first` is returned to.
    """
    half = rule.window // 2
    i = len(eigenvalues) - 1
    epoch = rule.every * (i - half - rule.delta)
    if i - rule.delta < half or epoch < rule.first:
        return None
    now, before = (_mean(eigenvalues, j, rule.window) for j in (i, i - rule.delta))
    return epoch if before != 0 and now / before > rule.factor else None


def _mean(values: Sequence[float], last: int, window: int) -> float:
    part = values[max(0, last + 1 - window) : last + 1]
    return sum(part) / len(part)


class EigenvalueStopper:
    """Applies the rule while a search runs.

    `stop` ends the search; its result is the genotype of the epoch before the growth (DARTS-ES).
    `adapt` returns to that epoch with more weight decay, as long as there is more to be had, and
    goes on by the same rule (DARTS-ADA).

    Args:
        rule: its constants and the action.
    """

    def __init__(self, rule: EarlyStopConfig) -> None:
        self.rule = rule
        self._eigenvalues: list[float] = []

    @property
    def reach(self) -> int:
        """Epochs from a measurement back to where it may lead."""
        return self.rule.every * (self.rule.window // 2 + self.rule.delta)

    def measures(self, epoch: int, epochs: int) -> bool:
        """Return whether the eigenvalue is needed after this epoch: every second, and the last."""
        return epoch % self.rule.every == 0 or epoch == epochs - 1

    def observe(
        self, epoch: int, epochs: int, eigenvalue: float, weight_decay: float
    ) -> Go | Stop | Rollback:
        """Take note of a measurement and decide; nothing is decided after the last epoch."""
        self._eigenvalues.append(eigenvalue)
        found = None if epoch >= epochs - 1 else _judge(self._eigenvalues, self.rule)
        if found is None:
            return Go()
        if self.rule.action == "stop":
            return Stop(found)
        if weight_decay >= self.rule.decay_max * (1 - 1e-9):  # as products round
            return Go()
        del self._eigenvalues[found // self.rule.every + 1 :]
        return Rollback(found, min(weight_decay * self.rule.decay_factor, self.rule.decay_max))

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements."""
        return {"eigenvalues": list(self._eigenvalues)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after those measurements."""
        self._eigenvalues = [float(value) for value in state["eigenvalues"]]
