"""What a network computes: operations, cells, supernets and derived networks."""

from darts_ray.nn.conv.network import ConvNetwork, ImageNetNetwork
from darts_ray.nn.conv.operations import register_operation
from darts_ray.nn.conv.supernet import ConvSupernet
from darts_ray.nn.counting import count_parameters, multiply_adds, num_weights
from darts_ray.nn.mixing import Mixing, one_hot, softmax_mixing
from darts_ray.nn.recurrent.activations import register_activation
from darts_ray.nn.recurrent.dropout import RecurrentDropout
from darts_ray.nn.recurrent.network import RecurrentNetwork
from darts_ray.nn.recurrent.supernet import RecurrentSupernet
from darts_ray.nn.supernet import Batch, State, Supernet, weights_frozen

__all__ = [
    "Batch",
    "ConvNetwork",
    "ConvSupernet",
    "ImageNetNetwork",
    "Mixing",
    "RecurrentDropout",
    "RecurrentNetwork",
    "RecurrentSupernet",
    "State",
    "Supernet",
    "count_parameters",
    "multiply_adds",
    "num_weights",
    "one_hot",
    "register_activation",
    "register_operation",
    "softmax_mixing",
    "weights_frozen",
]
