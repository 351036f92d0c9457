"""What the original authors and their successors call the weights of our networks.

Only names and views: each function pairs the names of a reference code with our tensors that hold
the same values. Sources: quark0/darts, yuhuixu1993/PC-DARTS, D-X-Y/AutoDL-Projects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor

from darts_ray.nn import ConvNetwork, ConvSupernet, ImageNetNetwork
from darts_ray.nn.conv.cell import ConvCell
from darts_ray.nn.recurrent.language_model import RecurrentLanguageModel

_EDGE = re.compile(r"(cells\.\d+)\.edges\.(\d+)\.ops\.(.+)")


def conv_supernet(network: ConvSupernet) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of DARTS, PC-DARTS (`_ops.ROW._ops.COLUMN`) or NAS-Bench-201's supernet.

    The latter calls an edge by its nodes, counted from the input: `edges.2<-0.COLUMN`.
    """
    for name, view in network.plain_layout():
        edge = _EDGE.fullmatch(name)
        if edge is None:
            yield name, view
        elif network.skeleton == "nasbench201":
            topology = network.space.cell("cell").edges[int(edge[2])]
            nodes = f"{topology.node + 1}<-{topology.source}"
            yield f"{edge[1]}.edges.{nodes}.{edge[3]}", view
        else:
            column, _, rest = edge[3].partition(".")
            yield f"{edge[1]}._ops.{edge[2]}._ops.{column}.{rest}", view


def conv_alphas(network: ConvSupernet) -> dict[str, str]:
    """Return what the alphas are called, by our names."""
    names = {}
    for name in network.alphas:
        if name == "cell" and network.skeleton == "nasbench201":
            names[name] = "arch_parameters"
        elif name.startswith("beta_"):
            names[name] = f"betas_{name.removeprefix('beta_')}"
        else:
            names[name] = f"alphas_{name}"
    return names


def conv_network(network: ConvNetwork | ImageNetNetwork) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights and statistics of a derived network.

    Only a cell's operations have other names: `_ops` for DARTS, edge after edge; `layers` for
    NAS-Bench-201, where a node's edges come in the order of their sources.
    """
    is_stages = network.genotype.skeleton == "nasbench201"
    positions = {
        index: _by_source(cell)
        for index, cell in enumerate(network.cells)
        if is_stages and isinstance(cell, ConvCell)
    }
    for name, value in network.state_dict(keep_vars=True).items():
        parts = re.fullmatch(r"cells\.(\d+)\.ops\.(\d+)\.(.+)", name)
        if parts is None:
            yield name, value
        elif is_stages:
            layer = positions[int(parts[1])][int(parts[2])]
            yield f"cells.{parts[1]}.layers.{layer}.{parts[3]}", value
        else:
            yield f"cells.{parts[1]}._ops.{parts[2]}.{parts[3]}", value


def _by_source(cell: ConvCell) -> list[int]:
    """Return each operation's place if the edges of a node came in the order of their sources."""
    places: list[int] = []
    for sources in cell.predecessors:
        order = sorted(range(len(sources)), key=lambda edge: sources[edge])
        places += [len(places) + order.index(edge) for edge in range(len(sources))]
    return places


def language_model(network: RecurrentLanguageModel) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of a recurrent network.

    The decoder's weight, which the original stores twice, comes once, as that of the encoder.
    """
    yield "encoder.weight", network.embedding
    yield "decoder.bias", network.decoder_bias
    yield "rnns.0._W0", network.cell.input_weight
    for node, weight in enumerate(network.cell.node_weights):
        yield f"rnns.0._Ws.{node}", weight
