"""Genotypes from the texts that people have: JSON, log lines, architecture strings, NNI's."""

from __future__ import annotations

import json

from darts_ray.errors import ConfigError
from darts_ray.space.genotype import Genotype
from darts_ray.space.reading.arch import arch_string, find_arch, parse_arch
from darts_ray.space.reading.nni import is_nni, read_nni
from darts_ray.space.reading.printed import read_printed

__all__ = ["arch_string", "parse_arch", "read_genotype"]

_QUOTES = "\"'`"


def read_genotype(text: str) -> Genotype:
    """Read a genotype from a text.

    Understood are our JSON and NNI's; what the original code and its successors print as
    `Genotype(...)`, with whatever a log or a source file has around it; and the architecture
    strings of NAS-Bench-201. Nothing is evaluated.

    Raises:
        ConfigError: the text is none of them; the message says what was not understood.
    """
    stripped = text.strip().removeprefix("\ufeff").strip()
    while len(stripped) > 1 and stripped[0] in _QUOTES and stripped[0] == stripped[-1]:
        stripped = stripped[1:-1].strip()
    if stripped.startswith("{"):
        return _from_json(stripped)
    if "Genotype(" in stripped:
        return read_printed(stripped)
    arch = find_arch(stripped)
    if arch is not None:
        return parse_arch(arch)
    shown = stripped[:60] + ("..." if len(stripped) > 60 else "")
    raise ConfigError(
        f"Genotype: {shown!r} is not understood. Give JSON, Genotype(normal=[...],"
        " normal_concat=..., reduce=[...], reduce_concat=...), Genotype(recurrent=[...],"
        " concat=...), or an architecture string such as |nor_conv_3x3~0|+|...|."
    )


def _from_json(text: str) -> Genotype:
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        return Genotype.from_json(text)  # which says what is wrong
    if isinstance(values, dict) and is_nni(values):
        return read_nni(values)
    return Genotype.from_json(text)
