"""From a supernet's alphas to the mixing weights of one pass, and to what tables show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from darts_ray.nn.mixing import Mixing
from darts_ray.search.parts import Method, Probe, Progress, Role, Softmax
from darts_ray.space import softmax_alphas


def relax(
    method: Method, supernet: Any, role: Role, progress: Progress, probe: Probe | None = None
) -> Mixing:
    """Return the mixing weights of one pass: the method's relaxation of the present alphas.

    Where a method decides edge by edge, the one primitive that is left of an edge has weight 1.

    Args:
        method: its relaxation.
        supernet: its alphas, space and mask.
        role: what the pass is for.
        progress: for ramps.
        probe: as of `Relaxation.mix`.
    """
    mixing = method.relaxation.mix(supernet.alphas, supernet.space, role, progress, probe)
    if not method.projects:
        return mixing
    weights = {}
    for name, p in mixing.weights.items():
        mask = supernet.mask[name]
        decided = mask.sum(-1, keepdim=True) == 1  # (edges, 1)
        weights[name] = torch.where(decided, mask.to(p), p)
    if mixing.active is None:
        return replace(mixing, weights=weights)
    active = {
        name: tuple(map(_running, supernet.mask[name].tolist(), drawn))
        for name, drawn in mixing.active.items()
    }
    return replace(mixing, weights=weights, active=active)


def _running(kept: Sequence[bool], drawn: Sequence[int]) -> tuple[int, ...]:
    """Return the columns that run of an edge: what is decided, or what is drawn of the rest."""
    left = tuple(column for column, is_left in enumerate(kept) if is_left)
    return left if len(left) == 1 else tuple(column for column in drawn if column in left)


def relaxed_weights(method: Method, supernet: Any) -> dict[str, list[Any]]:
    """Return what a method has learnt by name as nested lists, in float64.

    These are the relaxed weights of the cells, and further parameters such as one beta per edge.

    Args:
        method: its relaxation says what to show.
        supernet: its alphas, space and mask.
    """
    with torch.no_grad():
        alphas = {name: values.double() for name, values in supernet.alphas.items()}
        # rows that are padded need the relaxation's own softmax
        padded = any(not cell.mask().all() for cell in supernet.space.cells)
        if type(method.relaxation) is Softmax and not padded:
            return {name: softmax_alphas(values).tolist() for name, values in alphas.items()}
        shown = method.relaxation.shown(alphas, supernet.space)
        return {name: values.tolist() for name, values in shown.items()}
