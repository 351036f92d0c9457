"""What a network computes: operations, cells, supernets and derived networks."""

from darts_ray.nn.supernet import Batch, State, Supernet

__all__ = [
    "Batch",
    "State",
    "Supernet",
]
