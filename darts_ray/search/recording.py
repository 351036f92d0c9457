"""What an early-stopping rule needs of the past: genotypes, and states to return to."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from darts_ray.search.parts import Rollback, Stop
from darts_ray.search.stopping import EigenvalueStopper
from darts_ray.space import Genotype

if TYPE_CHECKING:
    from darts_ray.search.run import SearchRun


class Recorder:
    """Remembers as many epochs as the rule may go back, and carries out its verdicts.

    Attributes:
        result: the genotype of a search that was stopped; None: it goes on.
        weight_decay: that the rule has set; None: the configured one.

    Args:
        stopper: the rule; None: nothing is recorded.
    """

    def __init__(self, stopper: EigenvalueStopper | None) -> None:
        self.result: Genotype | None = None
        self.weight_decay: float | None = None
        self._stopper = stopper
        self._genotypes: dict[int, str] = {}
        self._states: dict[int, dict[str, Any]] = {}

    def measures(self, epoch: int, epochs: int) -> bool:
        """Return whether the eigenvalue is needed after this epoch, counted from 0."""
        return self._stopper is not None and self._stopper.measures(epoch, epochs)

    def observe(self, run: SearchRun, eigenvalue: float | None) -> dict[str, Any]:
        """Take note of the epoch that has just ended; return what the rule did."""
        if self._stopper is None or eigenvalue is None:
            return {}
        epoch = run.epochs_done - 1
        decay = self.weight_decay or run.config.optim.weight_decay
        self._genotypes[epoch] = run.genotype().to_json()
        if self._stopper.rule.action == "adapt":
            self._states[epoch] = copy.deepcopy(run.trained_state())
        verdict = self._stopper.observe(epoch, run.epochs, eigenvalue, decay)
        metrics: dict[str, Any] = {}
        if isinstance(verdict, Stop):
            self.result = Genotype.from_json(self._genotypes[verdict.epoch])
            metrics = {"stopped_at": verdict.epoch + 1}
        elif isinstance(verdict, Rollback):
            run.return_to(self._states[verdict.epoch], verdict.epoch + 1)
            self.weight_decay = verdict.weight_decay
            metrics = {
                "rolled_back_to": verdict.epoch + 1,
                "weight_decay": verdict.weight_decay,
            }
        oldest = run.epochs_done - 1 - self._stopper.reach
        for past in (self._genotypes, self._states):
            for key in [key for key in past if not oldest <= key < run.epochs_done]:
                del past[key]
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered."""
        return {
            "result": None if self.result is None else self.result.to_json(),
            "weight_decay": self.weight_decay,
            "stopper": None if self._stopper is None else self._stopper.state_dict(),
            "genotypes": dict(self._genotypes),
            "states": dict(self._states),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from that."""
        result = state["result"]
        self.result = None if result is None else Genotype.from_json(result)
        self.weight_decay = state["weight_decay"]
        if self._stopper is not None and state["stopper"] is not None:
            self._stopper.load_state_dict(state["stopper"])
        self._genotypes = dict(state["genotypes"])
        self._states = copy.deepcopy(dict(state["states"]))
