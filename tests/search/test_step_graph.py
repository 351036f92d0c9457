"""Steps as CUDA graphs: the bookkeeping on any machine, the graphs themselves on a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from darts_ray.config import SearchOptimConfig
from darts_ray.errors import ConfigError
from darts_ray.nn import ConvSupernet, RecurrentSupernet
from darts_ray.nn.supernet import Batch
from darts_ray.search import BilevelStep, SearchRun
from darts_ray.search.step.step_graph import StepGraph, Tensors
from tests.search.identical import assert_identical
from tests.search.small import image_config, image_data, text_config
from tests.search.toys import FeedForwardToy, image_like_batch, token_batch


class Rerun:
    """Stands in for CUDA graphs: a replay computes again, and sees only what was recorded."""

    def __init__(self, numbers: Callable[[], tuple[float, ...]]) -> None:
        self._numbers = numbers
        self.num_run = 0
        self.num_recorded = 0

    def run(self, step: Callable[[], Tensors]) -> Tensors:
        self.num_run += 1
        return step()

    def record(self, step: Callable[[], Tensors]) -> Callable[[], Tensors]:
        self.num_recorded += 1
        baked = self._numbers()

        def repeat() -> Tensors:
            assert self._numbers() == baked, "a graph would still use the old number"
            return step()

        return repeat

    def random_state(self) -> Tensor:
        return torch.get_rng_state()


def toy_step(**optim: Any) -> BilevelStep:
    torch.manual_seed(3)
    values = {"order": "unrolled", "hvp": "exact", "weight_lr": 0.1, **optim}
    return BilevelStep(FeedForwardToy().double(), SearchOptimConfig(**values))


def state_of(step: BilevelStep) -> dict[str, Any]:
    return {"supernet": step.supernet.state_dict(), "step": step.state_dict()}


def test_replayed_steps_equal_normal_ones_through_all_that_changes() -> None:
    normal, graphed = toy_step(), toy_step()
    recorder = Rerun(lambda: (graphed.weight_lr, graphed.alpha_lr, graphed.weight_lr))
    graphed._graph = StepGraph(graphed._update, recorder)
    saved = None
    for index in range(24):
        if index == 12:
            saved = state_of(normal)
        if index == 18:
            for step in (normal, graphed):
                step.load_state_dict(saved["step"])
        for step in (normal, graphed):
            step.weight_lr = 0.1 if index < 7 else 0.05
            step.alpha_lr = 3e-4 if index < 9 else 1e-3
            step.xi = "weight_lr" if index < 11 else 0.02
        size = 5 if index in (5, 16) else 8  # an epoch's last batch
        batches = image_like_batch(index, size), image_like_batch(100 + index, size)
        expected, found = normal.step(*batches), graphed.step(*batches)
        assert_identical(vars(found), vars(expected))
    assert_identical(state_of(graphed), state_of(normal))
    # three normal steps at the start and after the restored state, and the two smaller batches
    assert recorder.num_run == 3 + 3 + 2
    # at the start, for each of the three changes, and after the restored state
    assert recorder.num_recorded == 1 + 3 + 1


def test_results_of_a_replay_are_not_overwritten_by_the_next() -> None:
    memory = torch.zeros(())

    def step(train: Batch, valid: Batch) -> Tensors:
        return (memory.copy_(train[0].sum()),)

    graph = StepGraph(step, Rerun(lambda: ()))
    batch = (torch.ones(2), torch.ones(2))
    results = [graph((batch[0] * k, batch[1]), batch, ())[0] for k in range(6)]
    assert [result.item() for result in results[3:]] == [6, 8, 10]


def test_a_step_that_draws_random_numbers_is_refused() -> None:
    def step(train: Batch, valid: Batch) -> Tensors:
        return (torch.rand(()),)

    batch = (torch.ones(2), torch.ones(2))
    with pytest.raises(ConfigError, match="graphs: this network draws random numbers"):
        StepGraph(step, Rerun(lambda: ()))(batch, batch, ())


def test_graphs_without_a_gpu_or_for_texts_are_refused() -> None:
    with pytest.raises(ConfigError, match="graphs: CUDA graphs need a GPU"):
        SearchRun(image_config(graphs=True, device="cpu"), image_data())
    with pytest.raises(ValueError, match="graphs: is for conv searches"):
        text_config(graphs=True)


class HostReads(TorchDispatchMode):
    """Counts what would make a GPU wait for the host: reading values, and sizes that depend on
    them; Adam's own counters, which stay on the host without `capturable`, are left out.
    """

    def __init__(self, step: BilevelStep) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self._step = step

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "masked_select"):
            counters = self._step.optimizers.alphas.state.values()
            own = {id(state["step"]) for state in counters}
            if not any(id(leaf) in own for leaf in tree_leaves(args)):
                self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("order", "hvp"),
    [("first", "exact"), ("unrolled", "exact"), ("unrolled", "finite_difference")],
)
@pytest.mark.parametrize("kind", ["conv", "recurrent"])
def test_no_step_waits_for_the_device(kind: str, order: str, hvp: str) -> None:
    optim = SearchOptimConfig(order=order, hvp=hvp)
    if kind == "conv":
        step = BilevelStep(ConvSupernet(channels=2, num_classes=3, layers=3), optim)
        batch = torch.randn(4, 3, 8, 8), torch.randint(3, (4,))
    else:
        supernet = RecurrentSupernet(7, embedding_dim=8, hidden_dim=8, nodes=2)
        step, batch = BilevelStep(supernet, optim), token_batch(0)
    step.step(batch, batch)
    with HostReads(step) as reads:
        step.step(batch, batch)
    assert not reads.found


def test_waiting_for_the_device_would_be_seen() -> None:
    class Asking(FeedForwardToy):
        def stateful_loss(self, batch: Batch, state: None, *, regularised: bool = False):
            loss, state = super().stateful_loss(batch, state)
            return loss * (2 if loss.item() > 0 else 1), state

    step = BilevelStep(Asking().double(), SearchOptimConfig())
    with HostReads(step) as reads:
        step.step(image_like_batch(0), image_like_batch(1))
    assert reads.found


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("order", ["first", "unrolled"])
def test_graphs_compute_what_normal_steps_compute(order: str, precision: str) -> None:
    runs = [
        SearchRun(
            image_config(
                device="cuda", optim={"order": order}, deterministic=True, graphs=graphs,
                precision=precision, epochs=6,
            ),
            image_data(120),
        )
        for graphs in (False, True)
    ]  # fmt: skip
    for _ in range(6):
        normal, graphed = (run.run_epoch() for run in runs)
        for key in ("train_loss", "valid_loss", "grad_norm", "validation_loss"):
            assert graphed[key] == pytest.approx(normal[key], rel=1e-5)
        torch.testing.assert_close(
            torch.tensor(graphed["alphas"]["normal"]), torch.tensor(normal["alphas"]["normal"]),
            rtol=1e-4, atol=1e-5,
        )  # fmt: skip
    resumed = SearchRun(runs[1].config, image_data(120))
    resumed.load_state_dict(runs[1].state_dict())
    assert resumed.epochs_done == 6
