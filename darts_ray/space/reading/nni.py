"""Cells as NNI (github.com/microsoft/nni) exports them: one JSON object of choices.

Its DARTS trainer writes `normal_n2_p0: "sepconv3x3"` (or a number) per edge and
`normal_n2_switch: ["normal_n2_p0", ...]` per node; its model spaces write `normal/op_2_0` and
`normal/input_2_0`. Nodes count from 2 in both, after the two inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from darts_ray.errors import ConfigError
from darts_ray.space.edges import Edge
from darts_ray.space.genotype import Genotype

_EDGE = re.compile(r"(normal|reduce)_n(\d+)_p(\d+)")
_SWITCH = re.compile(r"(normal|reduce)_n(\d+)_switch")
_OPERATION = re.compile(r"(normal|reduce)/op_(\d+)_(\d+)")
_INPUT = re.compile(r"(normal|reduce)/input_(\d+)_(\d+)")

_NAMES = {
    "maxpool": "max_pool_3x3",
    "avgpool": "avg_pool_3x3",
    "skipconnect": "skip_connect",
    "sepconv3x3": "sep_conv_3x3",
    "sepconv5x5": "sep_conv_5x5",
    "dilconv3x3": "dil_conv_3x3",
    "dilconv5x5": "dil_conv_5x5",
    "none": "none",
}
_ORDER = tuple(_NAMES.values())
"""What a number stands for: the order of NNI's list."""

_Choices = dict[tuple[str, int], list[Edge]]


def is_nni(values: Mapping[str, Any]) -> bool:
    """Tell whether an object is one of NNI's."""
    return any(_EDGE.fullmatch(key) or _OPERATION.fullmatch(key) for key in values)


def read_nni(values: Mapping[str, Any]) -> Genotype:
    """Build the genotype of an exported object.

    Raises:
        ConfigError: an entry is not understood, or it is not said which edges a node keeps.
    """
    choices: _Choices = {}
    for key, value in values.items():
        if edge := _EDGE.fullmatch(key):
            _read_edge(choices, values, edge, value)
        elif operation := _OPERATION.fullmatch(key):
            _read_operation(choices, values, operation, value)
        elif not (_SWITCH.fullmatch(key) or _INPUT.fullmatch(key)):
            raise ConfigError(f"Genotype: NNI's entry {key!r} is not understood.")
    cells = {}
    for cell in ("normal", "reduce"):
        last = max((node for name, node in choices if name == cell), default=1)
        cells[cell] = tuple(tuple(choices.get((cell, node), [])) for node in range(2, last + 1))
    return Genotype(cells)


def _read_edge(
    choices: _Choices, values: Mapping[str, Any], match: re.Match[str], value: Any
) -> None:
    cell, node, source = match[1], int(match[2]), int(match[3])
    edges = choices.setdefault((cell, node), [])
    switch = values.get(f"{cell}_n{node}_switch")
    if switch is not None and match[0] not in switch:
        return
    if value in ([], None):
        if switch is not None:
            raise ConfigError(f"Genotype: NNI's {match[0]} is kept, but has no operation.")
        return
    primitive = _primitive(match[0], value)
    if primitive == "none":
        return
    edges.append(Edge(primitive, source))
    if switch is None and len(edges) > 2:
        raise ConfigError(
            f"Genotype: NNI's {cell} node {node} has more than two operations and no"
            f" {cell}_n{node}_switch, so which edges it keeps is not said."
        )


def _read_operation(
    choices: _Choices, values: Mapping[str, Any], match: re.Match[str], value: Any
) -> None:
    cell, node, number = match[1], int(match[2]), match[3]
    place = f"{cell}/input_{node}_{number}"
    source = values.get(place)
    if isinstance(source, list) and len(source) == 1:
        source = source[0]
    if type(source) is not int:
        raise ConfigError(f"Genotype: NNI's {place} is {source!r}; it must be one state.")
    choices.setdefault((cell, node), []).append(Edge(_primitive(match[0], value), source))


def _primitive(key: str, value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if type(value) is int and 0 <= value < len(_ORDER):
        return _ORDER[value]
    if isinstance(value, str):
        return _NAMES.get(value, value)
    raise ConfigError(f"Genotype: NNI's {key} is {value!r}; it must name one operation.")
