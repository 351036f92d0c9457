"""The dominant eigenvalue against the full Hessian."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.func import functional_call

from darts_ray.search import dominant_eigenvalue
from tests.search.identical import assert_identical
from tests.search.toys import (
    PAPER_VALID,
    FeedForwardToy,
    PaperToy,
    RecurrentToy,
    image_like_batch,
    token_batch,
)

CASES = [(FeedForwardToy, image_like_batch(0)), (RecurrentToy, token_batch(0))]


def full_hessian(supernet: Any, batch: Any) -> torch.Tensor:
    sizes = [alpha.numel() for alpha in supernet.alphas.values()]
    names = [f"alpha_{name}" for name in supernet.alphas]
    shape = next(iter(supernet.alphas.values())).shape

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.supernet = supernet

        def forward(self) -> torch.Tensor:
            return supernet.loss(batch)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = dict(zip(names, flat.split(sizes), strict=True))
        given = {f"supernet.{name}": part.view(shape) for name, part in parts.items()}
        return functional_call(Loss(), given, ())

    flat = torch.cat([alpha.detach().flatten() for alpha in supernet.alphas.values()])
    return torch.autograd.functional.hessian(loss, flat)


@pytest.mark.parametrize(("toy", "batch"), CASES)
def test_equals_the_full_hessians_eigenvalue(toy: Any, batch: Any) -> None:
    torch.manual_seed(0)
    supernet = toy().double()
    before = dict(supernet.state_dict())
    rng = torch.get_rng_state()
    eigenvalues = torch.linalg.eigvalsh(full_hessian(supernet, batch))
    expected = eigenvalues[eigenvalues.abs().argmax()].item()
    assert dominant_eigenvalue(supernet, batch) == pytest.approx(expected, rel=1e-9)
    assert_identical(before, dict(supernet.state_dict()))
    assert torch.equal(rng, torch.get_rng_state())


def test_a_loss_linear_in_alpha_has_no_curvature() -> None:
    assert dominant_eigenvalue(PaperToy(2.0, -2.0), PAPER_VALID) == 0.0


def test_few_iterations_find_the_end_of_a_spread_spectrum() -> None:
    from darts_ray.search.spectrum import _lanczos

    generator = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(60, 60, generator=generator, dtype=torch.float64))
    values = torch.linspace(-1, 1, 60, dtype=torch.float64)
    values[7] = -3.0  # stands out, and is negative
    matrix = basis @ torch.diag(values) @ basis.T
    diagonal, off = _lanczos(lambda v: matrix @ v, 60, 12)
    assert len(diagonal) == 12
    tridiagonal = torch.diag(diagonal) + torch.diag(off, 1) + torch.diag(off, -1)
    assert torch.linalg.eigvalsh(tridiagonal)[0].item() == pytest.approx(-3.0, abs=1e-6)
