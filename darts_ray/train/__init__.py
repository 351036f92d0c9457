"""How a derived network is trained from scratch, evaluated and saved."""

from darts_ray.train.build import build_network, describe_network
from darts_ray.train.checkpoint import (
    Checkpoint,
    evaluate_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from darts_ray.train.evaluation import evaluate_network
from darts_ray.train.run import RetrainRun
from darts_ray.train.schedules import drop_path_rate, learning_rate

__all__ = [
    "Checkpoint",
    "RetrainRun",
    "build_network",
    "describe_network",
    "drop_path_rate",
    "evaluate_checkpoint",
    "evaluate_network",
    "learning_rate",
    "load_checkpoint",
    "save_checkpoint",
]
