"""The parts of a supernet's connection, whether it is one or several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from darts_ray.nn.conv.connections import Chain

PartT = TypeVar("PartT")


def connections_of(supernet: Any, kind: type[PartT]) -> Iterator[PartT]:
    """Yield the parts of a supernet's connection that are of one kind."""
    connection = getattr(supernet, "connection", None)
    for part in connection.connections if isinstance(connection, Chain) else (connection,):
        if isinstance(part, kind):
            yield part
