"""Which number a study is judged by, and how it is written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from darts_ray.config import DataConfig


@dataclass(frozen=True)
class Measure:
    """Accuracy (more is better) for images, perplexity (less is better) for text.

    Attributes:
        name: `accuracy` or `perplexity`.
        more_is_better: the direction.
    """

    name: str
    more_is_better: bool

    @classmethod
    def of(cls, data: DataConfig) -> Measure:
        """Return what studies of this data are judged by."""
        return cls("perplexity", False) if data.is_text else cls("accuracy", True)

    @property
    def validation(self) -> str:
        """The metric on held-out training data."""
        return f"validation_{self.name}"

    @property
    def test(self) -> str:
        """The metric on the test set."""
        return f"test_{self.name}"

    def merit(self, score: float | None) -> float:
        """Return a number of which more is always better; worst for a missing score."""
        if score is None or not math.isfinite(score):
            return -math.inf
        return score if self.more_is_better else -score

    def best(self, scores: Iterable[float]) -> float:
        """Return the best of some scores."""
        return max(scores, key=self.merit)

    def show(self, score: float) -> str:
        """Write one score: accuracies in percent."""
        return f"{100 * score:.2f}" if self.more_is_better else f"{score:.2f}"

    @property
    def unit(self) -> str:
        """What `show` counts in."""
        return "%" if self.more_is_better else ""

    @property
    def title(self) -> str:
        """Name and unit, for table headings."""
        return f"{self.name} ({self.unit})" if self.unit else self.name
