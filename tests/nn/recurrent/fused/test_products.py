"""Products that share one matrix, against autograd on plain products."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from darts_ray.nn.recurrent.fused.products import SharedMatrix

STEPS, ROWS, HIDDEN, BATCH = 4, 6, 3, 2


@pytest.fixture
def matrix() -> Tensor:
    return torch.randn(ROWS, HIDDEN, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def first() -> Tensor:
    return torch.randn(HIDDEN, BATCH, dtype=torch.float64, requires_grad=True)


def plain_outputs(matrix: Tensor, first: Tensor) -> list[Tensor]:
    outputs, state = [], first
    for _ in range(STEPS):
        product = matrix @ state
        state = product[:HIDDEN].tanh() + product[HIDDEN:]
        outputs.append(state)
    return outputs


def shared_outputs(matrix: Tensor, first: Tensor) -> list[Tensor]:
    shared, outputs, state = SharedMatrix(matrix, STEPS, BATCH), [], first
    for _ in range(STEPS):
        product = shared @ state
        state = product[:HIDDEN].tanh() + product[HIDDEN:]
        outputs.append(state)
    return outputs


def gradients(outputs: list[Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    loss = torch.stack(outputs).square().sum()
    return torch.autograd.grad(loss, inputs, retain_graph=True)


def test_gradients_are_those_of_plain_products(matrix: Tensor, first: Tensor) -> None:
    outputs, expected = shared_outputs(matrix, first), plain_outputs(matrix, first)
    torch.testing.assert_close(outputs, expected)
    for inputs in ([matrix, first], [matrix], [first]):
        torch.testing.assert_close(gradients(outputs, *inputs), gradients(expected, *inputs))


def test_each_backward_pass_counts_its_own_products_only(matrix: Tensor, first: Tensor) -> None:
    outputs, expected = shared_outputs(matrix, first), plain_outputs(matrix, first)
    gradients(outputs, first)  # asks nothing of the matrix
    for some in (slice(None), slice(0, 2), slice(1, 2), slice(3, 4)):
        torch.testing.assert_close(
            gradients(outputs[some], matrix), gradients(expected[some], matrix)
        )


def test_differentiable_three_times(matrix: Tensor, first: Tensor) -> None:
    def loss(matrix: Tensor, first: Tensor) -> Tensor:
        return torch.stack(shared_outputs(matrix, first)).square().sum()

    def slope(matrix: Tensor, first: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss(matrix, first), (matrix, first), create_graph=True)

    assert torch.autograd.gradcheck(loss, (matrix, first))
    assert torch.autograd.gradcheck(slope, (matrix, first))
    assert torch.autograd.gradgradcheck(slope, (matrix, first))


def test_a_frozen_matrix_and_no_grad_leave_states_differentiable(
    matrix: Tensor, first: Tensor
) -> None:
    frozen = matrix.detach()
    torch.testing.assert_close(
        gradients(shared_outputs(frozen, first), first),
        gradients(plain_outputs(frozen, first), first),
    )
    with torch.no_grad():
        assert not shared_outputs(matrix, first)[-1].requires_grad


class ProductCounter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.mm.default
        return func(*args, **(kwargs or {}))


def test_a_pass_makes_one_product_for_the_matrix(matrix: Tensor, first: Tensor) -> None:
    outputs = shared_outputs(matrix, first.detach())
    with ProductCounter() as counter:
        gradients(outputs, matrix)
    assert counter.count == (STEPS - 1) + 1  # back through all states but the first


def test_autocast_multiplies_in_the_precision_of_the_matrix(first: Tensor) -> None:
    weight = torch.randn(ROWS, HIDDEN, requires_grad=True)
    state = first.detach().float()
    with torch.autocast("cpu", torch.bfloat16):
        product = SharedMatrix(weight.to(torch.bfloat16), 1, BATCH) @ state
        plain = weight @ state
    assert product.dtype == plain.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(product.sum(), weight)
    (expected,) = torch.autograd.grad(plain.sum(), weight)
    torch.testing.assert_close(product, plain)
    torch.testing.assert_close(gradient, expected)
