"""What every supernet keeps of its architecture: alphas, masks, and how they become weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.mixing import Mixing, softmax_mixing
from darts_ray.space import Genotype, SearchSpace, derive, derive_strengths

_ALPHA, _MASK = "alpha_", "mask_"


class ArchitectureParameters(nn.Module):
    """The part of a supernet that is about alphas; the network itself is the subclass's.

    Alphas are Parameters `alpha_NAME`, masks are buffers `mask_CELL`; both are in `state_dict`.

    Attributes:
        space: the search space.
    """

    space: SearchSpace

    def _add_architecture(self, space: SearchSpace, shapes: Mapping[str, tuple[int, int]]) -> None:
        """Add the alphas of each cell, drawn from N(0, 1e-3), and masks that let all through."""
        self.space = space
        self.add_alphas({name: 1e-3 * torch.randn(shape) for name, shape in shapes.items()})
        for name, shape in shapes.items():
            self.register_buffer(f"{_MASK}{name}", torch.ones(shape, dtype=torch.bool))
        self.register_load_state_dict_pre_hook(_complete_masks)  # type: ignore[no-untyped-call]

    def add_alphas(self, groups: Mapping[str, Tensor]) -> None:
        """Add architecture parameters of a method, for example one beta per edge.

        Args:
            groups: initial values by name; `NAME` becomes the Parameter `alpha_NAME`.

        Raises:
            ConfigError: there are alphas of that name.
        """
        for name, values in groups.items():
            if f"{_ALPHA}{name}" in self._parameters:
                raise ConfigError(f"This supernet has alphas named {name!r} already.")
            self.register_parameter(f"{_ALPHA}{name}", nn.Parameter(values))

    @property
    def alphas(self) -> dict[str, nn.Parameter]:
        """All architecture parameters by name: first those of the cells, (edges, columns)."""
        return {
            name.removeprefix(_ALPHA): parameter
            for name, parameter in self._parameters.items()
            if name.startswith(_ALPHA) and parameter is not None
        }

    @property
    def mask(self) -> dict[str, Tensor]:
        """By cell, which primitives may take part, bool (edges, columns); write to it in place.

        Weights are multiplied by it inside the network.
        """
        return {
            name.removeprefix(_MASK): mask
            for name, mask in self._buffers.items()
            if name.startswith(_MASK) and mask is not None
        }

    @property
    def weights(self) -> list[nn.Parameter]:
        """All network parameters, without the alphas."""
        return [p for name, p in self.named_parameters() if not name.startswith(_ALPHA)]

    def mixing(self) -> Mixing:
        """Return the softmax of the present alphas, see `softmax_mixing`."""
        return softmax_mixing(self.alphas, self.space)

    def genotype(self) -> Genotype:
        """Return the cells that the current alphas stand for.

        Primitives are ranked by the softmax of the alphas, times that of the betas where there are
        some (PC-DARTS).
        """
        alphas = self.alphas
        if not any(f"beta_{name}" in alphas for name in self.mask):
            return derive({name: alphas[name] for name in self.mask}, self.space)
        values = {name: alpha.detach().double() for name, alpha in alphas.items()}
        mixing = softmax_mixing(values, self.space)
        strengths = dict(mixing.weights)
        for name, edges in (mixing.edges or {}).items():
            strengths[name] = strengths[name] * edges.unsqueeze(-1)
        return derive_strengths(strengths, self.space)

    def _masked_weights(self, mixing: Mixing) -> dict[str, Tensor]:
        """Return p times the mask, by cell, in the alphas' precision and on their device.

        Raises:
            ConfigError: a cell is missing or has another shape.
        """
        masks = self.mask
        if set(mixing.weights) != set(masks):
            raise ConfigError(
                f"Mixing: weights are for the cells {sorted(mixing.weights)}; the supernet has"
                f" {sorted(masks)}."
            )
        weights = {}
        for name, mask in masks.items():
            p = mixing.weights[name]
            if p.shape[-2:] != mask.shape or p.dim() > 3:
                raise ConfigError(
                    f"Mixing: weights of {name!r} have shape {tuple(p.shape)}; the supernet's are"
                    f" {tuple(mask.shape)} (edges, columns)."
                )
            weights[name] = p.to(self.alphas[name]) * mask
        return weights


def _complete_masks(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let checkpoints load that were written before there were masks."""
    for name, mask in module._buffers.items():
        if name.startswith(_MASK) and mask is not None:
            state.setdefault(f"{prefix}{name}", torch.ones_like(mask))
