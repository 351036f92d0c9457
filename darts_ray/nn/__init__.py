"""What a network computes: operations, cells, supernets and derived networks."""

from darts_ray.nn.conv_network import ConvNetwork, ImageNetNetwork
from darts_ray.nn.conv_supernet import ConvSupernet
from darts_ray.nn.counting import count_parameters, multiply_adds, num_weights
from darts_ray.nn.operations import register_operation
from darts_ray.nn.supernet import Batch, State, Supernet

__all__ = [
    "Batch",
    "ConvNetwork",
    "ConvSupernet",
    "ImageNetNetwork",
    "State",
    "Supernet",
    "count_parameters",
    "multiply_adds",
    "num_weights",
    "register_operation",
]
