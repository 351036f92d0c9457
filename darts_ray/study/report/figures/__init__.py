"""Figures of the report, and the numbers behind them as CSV."""

from darts_ray.study.report.figures.alphas import alpha_history

__all__ = ["alpha_history"]
