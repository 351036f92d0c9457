"""Differentiable architecture search (DARTS, arXiv 1806.09055) as a Ray Tune plugin."""

__version__ = "0.1.0"
