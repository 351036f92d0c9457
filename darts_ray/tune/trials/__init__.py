"""Trials: as planned, as listed, as they lie on disk, and how they ended."""

from darts_ray.tune.trials.planned import TrialOutcome, TrialSpec

__all__ = ["TrialOutcome", "TrialSpec"]
