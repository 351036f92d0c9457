"""Architecture strings of NAS-Bench-201: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`."""

from __future__ import annotations

import re

from darts_ray.errors import ConfigError
from darts_ray.space.edges import Edge
from darts_ray.space.genotype import Genotype

_EDGE = re.compile(r"([A-Za-z0-9_]+)~(\d+)")
_STRING = re.compile(r"\|[^\s+'\"]*\|(?:\s*\+\s*\|[^\s+'\"]*\|)*")


def find_arch(text: str) -> str | None:
    """Return the architecture string in a text such as a log line; None without one.

    Raises:
        ConfigError: there are several different ones.
    """
    strings = {match[0] for match in _STRING.finditer(text) if "~" in match[0]}
    if len(strings) > 1:
        raise ConfigError(
            f"Genotype: the text holds {len(strings)} different architecture strings; give one."
        )
    if not strings:
        return text if text.startswith("|") else None
    string = strings.pop()
    # what stands beside a string that is cut would be left out without a word
    return text if text.startswith("|") else string


def parse_arch(text: str) -> Genotype:
    """Read an architecture string.

    Raises:
        ConfigError: it does not parse; the message names the place.
    """
    nodes = []
    for position, part in enumerate(text.strip().split("+")):
        part = part.strip()
        if not (part.startswith("|") and part.endswith("|") and len(part) > 2):
            raise ConfigError(
                f"Architecture string: node {position + 1} is {part!r}; it must look like"
                " |nor_conv_3x3~0|skip_connect~1|."
            )
        edges = []
        for item in part[1:-1].split("|"):
            match = _EDGE.fullmatch(item)
            if match is None:
                raise ConfigError(
                    f"Architecture string: node {position + 1} has {item!r}; an edge is written"
                    " as primitive~source."
                )
            edges.append(Edge(match[1], int(match[2])))
        sources = [edge.predecessor for edge in edges]
        if sources != list(range(position + 1)):
            raise ConfigError(
                f"Architecture string: node {position + 1} reads {sources}; it must read every"
                f" state from 0 to {position}, in order."
            )
        nodes.append(tuple(edges))
    return Genotype({"cell": tuple(nodes)})


def arch_string(genotype: Genotype) -> str:
    """Return a NAS-Bench-201 cell as the benchmark writes it.

    Edges that the genotype leaves out are written as `none`.

    Raises:
        ConfigError: the genotype is of another skeleton, or has two primitives on one edge.
    """
    if genotype.skeleton != "nasbench201":
        raise ConfigError(
            "Architecture strings are for NAS-Bench-201 cells; this genotype is of the skeleton"
            f" {genotype.skeleton!r}."
        )
    parts = []
    for position, node in enumerate(genotype.cells["cell"]):
        by_source = {edge.predecessor: edge.primitive for edge in node}
        if len(by_source) < len(node):
            raise ConfigError(f"Genotype: node {position} has two primitives on one edge.")
        names = [by_source.get(source, "none") for source in range(position + 1)]
        parts.append("".join(f"|{name}~{source}" for source, name in enumerate(names)) + "|")
    return "+".join(parts)
