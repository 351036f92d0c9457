"""The `darts-ray` command: parse, load the configuration, one library call, print.

The rooms that import torch, Ray or MLflow are imported by the command that needs them, so that
`--help` and a wrong configuration answer at once.
"""

from darts_ray.cli.entry import app, main, run

__all__ = ["app", "main", "run"]
