"""What a network computes: operations, cells, supernets and derived networks."""

from darts_ray.nn.conv_supernet import ConvSupernet
from darts_ray.nn.operations import register_operation
from darts_ray.nn.supernet import Batch, State, Supernet

__all__ = [
    "Batch",
    "ConvSupernet",
    "State",
    "Supernet",
    "register_operation",
]
