"""What every relaxation fulfils."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from darts_ray.nn import Mixing, one_hot
from darts_ray.search.parts import Progress, Relaxation, Role
from darts_ray.space import SearchSpace, derive_strengths

ROLES: tuple[Role, ...] = ("alpha", "weight", "eval")
MIDDLE = Progress(epoch=2, epochs=5)


def initial_alphas(relaxation: Relaxation, space: SearchSpace) -> dict[str, Tensor]:
    """The alphas that a supernet has under this relaxation, some way from where they begin."""
    torch.manual_seed(0)
    own = {cell.name: 1e-3 * torch.randn(cell.mask().shape) for cell in space.cells}
    alphas = {**own, **relaxation.initial(own, space)}
    return {
        name: (values + 0.5 * torch.randn_like(values)).requires_grad_()
        for name, values in alphas.items()
    }


def flat_loss(mixing: Mixing) -> Tensor:
    """A loss of the mixing alone, for relaxations that look at it (adversarial ones)."""
    return sum((p**2).sum() for p in mixing.weights.values())  # type: ignore[return-value]


class RelaxationContract:
    """Subclasses have the fixtures `relaxation` and `space`.

    Attributes:
        learns: whether the alphas' loss has a gradient in the alphas.
    """

    learns: ClassVar[bool] = True

    def mixed(self, relaxation: Relaxation, space: SearchSpace, role: Role) -> Mixing:
        probe = flat_loss if role == "weight" else None
        return relaxation.mix(initial_alphas(relaxation, space), space, role, MIDDLE, probe)

    def test_initial_values_are_finite_leaves_of_any_shape(
        self, relaxation: Relaxation, space: SearchSpace
    ) -> None:
        own = {cell.name: torch.zeros(cell.mask().shape) for cell in space.cells}
        for name, values in relaxation.initial(own, space).items():
            assert values.isfinite().all(), name
            if name in own:
                assert values.shape == own[name].shape, name

    @pytest.mark.parametrize("role", ROLES)
    def test_each_cell_gets_one_row_per_edge(
        self, relaxation: Relaxation, space: SearchSpace, role: Role
    ) -> None:
        mixing = self.mixed(relaxation, space, role)
        assert list(mixing.weights) == list(space.cell_names)
        for cell in space.cells:
            p = mixing.weights[cell.name]
            assert p.shape[-2:] == cell.mask().shape
            assert p.isfinite().all()
            assert (p * torch.as_tensor(~cell.mask()) == 0).all()  # columns that an edge lacks

    @pytest.mark.parametrize("role", ROLES)
    def test_draws_come_from_torchs_own_generator(
        self, relaxation: Relaxation, space: SearchSpace, role: Role
    ) -> None:
        alphas = initial_alphas(relaxation, space)
        drawn = []
        for _ in range(2):
            torch.manual_seed(3)
            mixing = relaxation.mix(alphas, space, role, MIDDLE, flat_loss)
            drawn.append(torch.cat([p.flatten() for p in mixing.weights.values()]))
        assert torch.equal(*drawn)

    def test_the_alphas_get_a_gradient(self, relaxation: Relaxation, space: SearchSpace) -> None:
        alphas = initial_alphas(relaxation, space)
        mixing = relaxation.mix(alphas, space, "alpha", MIDDLE)
        if not self.learns:
            assert not any(p.requires_grad for p in mixing.weights.values())
            return
        torch.manual_seed(1)
        loss = sum((p * torch.randn_like(p)).sum() for p in mixing.weights.values())
        cells = [alphas[name] for name in space.cell_names]
        for gradient in torch.autograd.grad(loss, cells):  # type: ignore[arg-type]
            assert gradient.isfinite().all()
            assert gradient.any()

    def test_strengths_make_a_genotype_of_the_space(
        self, relaxation: Relaxation, space: SearchSpace
    ) -> None:
        strengths = relaxation.strength(initial_alphas(relaxation, space), space)
        for cell in space.cells:
            assert strengths[cell.name].shape == cell.mask().shape
        detached = {name: values.detach() for name, values in strengths.items()}
        one_hot(derive_strengths(detached, space), space)  # raises where it is of another space

    def test_what_tables_show_are_plain_finite_numbers(
        self, relaxation: Relaxation, space: SearchSpace
    ) -> None:
        shown = relaxation.shown(initial_alphas(relaxation, space), space)
        assert set(space.cell_names) <= set(shown)
        json.dumps({name: p.tolist() for name, p in shown.items()}, allow_nan=False)
