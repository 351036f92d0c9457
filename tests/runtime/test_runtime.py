from __future__ import annotations

import math
import random
import weakref

import numpy as np
import pytest
import torch

from darts_ray.errors import CheckpointError, NonFiniteLossError, ResourceError
from darts_ray.runtime.device import image_layout, resolve_device
from darts_ray.runtime.losses import LossTrace
from darts_ray.runtime.memory import peak_memory_bytes
from darts_ray.runtime.packing import runs_per_gpu
from darts_ray.runtime.precision import autocast
from darts_ray.runtime.randomness import deterministic, rng_state, seed_everything, set_rng_state
from darts_ray.runtime.schedule import cosine

CPU = torch.device("cpu")


def _draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(1).item()


@pytest.fixture
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("_no_gpu")
def test_a_missing_gpu_is_an_error_only_when_it_is_asked_for() -> None:
    assert resolve_device("auto") == resolve_device("cpu") == CPU
    with pytest.raises(ResourceError, match="no GPU"):
        resolve_device("cuda")


def test_auto_takes_a_visible_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    assert resolve_device("cpu") == CPU


def test_seed_covers_all_generators() -> None:
    seed_everything(3)
    first = _draw()
    seed_everything(3)
    assert _draw() == first
    seed_everything(4)
    assert all(a != b for a, b in zip(_draw(), first, strict=True))


def test_random_state_survives_a_file(tmp_path: object) -> None:
    file = f"{tmp_path}/rng.pt"
    seed_everything(0)
    np.random.randn()  # half of a pair of normal numbers is kept for the next call
    torch.save(rng_state(CPU), file)
    first, normal = _draw(), np.random.randn()
    seed_everything(5)
    set_rng_state(torch.load(file, weights_only=True), CPU)
    assert (_draw(), np.random.randn()) == (first, normal)


@pytest.mark.parametrize("broken", [{}, {"python": 1}, {"python": (3, (1, 2), None)}])
def test_broken_random_state_is_an_error(broken: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="random number state"):
        set_rng_state(broken, CPU)


def test_autocast_changes_matrix_products_only_when_asked() -> None:
    a = torch.ones(2, 2)
    with autocast(CPU, "float32"):
        assert (a @ a).dtype == torch.float32
    with autocast(CPU, "bfloat16"):
        assert (a @ a).dtype == torch.bfloat16


def test_bfloat16_on_a_cpu_is_not_channels_last() -> None:
    assert image_layout(True, CPU, "float32") == torch.channels_last
    assert image_layout(True, torch.device("cuda"), "bfloat16") == torch.channels_last
    assert image_layout(True, CPU, "bfloat16") == torch.contiguous_format
    assert image_layout(False, CPU, "float32") == torch.contiguous_format


def test_deterministic_flags_hold_inside_only_even_after_an_error() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark
    inside = []

    def fail() -> None:
        with deterministic(True):
            inside.append((cudnn.deterministic, cudnn.benchmark))
            inside.append(torch.are_deterministic_algorithms_enabled())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert inside == [(True, False), True]
    assert not torch.are_deterministic_algorithms_enabled()
    assert cudnn.benchmark == before
    with deterministic(False):
        assert (cudnn.deterministic, cudnn.benchmark) == (False, True)


def test_cosine_by_hand() -> None:
    # the search's schedule: start, one third (cos 60 degrees = 1/2), middle, end
    values = [cosine(0.025, 0.001, epoch, 48) for epoch in (0, 16, 24, 48)]
    assert values == pytest.approx([0.025, 0.019, 0.013, 0.001], rel=1e-12)


def test_loss_trace_averages_by_weight() -> None:
    trace = LossTrace("loss", 1, interval=2)
    assert math.isnan(trace.mean())
    for value, weight in ((1.0, 1), (2.0, 2), (4.0, 1)):
        trace.add(torch.tensor(value), weight)
    assert trace.mean() == 9 / 4
    trace.add(torch.tensor(7.0), 4)
    assert trace.mean() == 37 / 8


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("interval", [1, 2, 9])
def test_loss_trace_names_the_first_bad_step(value: float, interval: int) -> None:
    trace = LossTrace("validation loss", 7, interval)

    def add_all() -> float:
        for loss in (1.0, 2.0, value, math.nan):
            trace.add(torch.tensor(loss))
        return trace.mean()

    with pytest.raises(NonFiniteLossError, match=r"validation loss.*epoch 7, step 3"):
        add_all()


def test_loss_trace_keeps_no_graph() -> None:
    weight = torch.ones((), requires_grad=True)
    trace = LossTrace("loss", 1)
    trace.add(weight * 2)
    freed = weakref.ref(weight)
    del weight
    assert freed() is None
    assert trace.mean() == 2


@pytest.mark.parametrize(
    ("peak_gib", "doubled", "runs"),
    [
        (2, 2.0, 1),  # the device is busy all the time
        (2, 1.25, 4),  # for a quarter of it
        (10, 1.25, 3),  # 40 GiB x 0.95 hold three of 10 GiB and CUDA's own
        (2, 1.0, 14),  # hardly at all: as many as memory holds
        (50, 1.1, 1),
    ],
)
def test_so_many_runs_share_a_gpu(peak_gib: int, doubled: float, runs: int) -> None:
    assert runs_per_gpu(peak_gib * 2**30, 40 * 2**30, 1.0, doubled) == runs


def test_peak_memory_is_at_least_what_was_allocated() -> None:
    block = torch.ones(2**23)  # 32 MiB
    assert peak_memory_bytes(CPU) > block.nbytes
