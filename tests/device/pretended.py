"""A second device that exists only in the tests: it shows what a GPU would object to.

Its tensors hold CPU memory, but say that they are on another device, refuse to be mixed with
tensors of the CPU (numbers without dimensions aside, as on a GPU), and every value that is read
back to the host is counted. Code runs as it would for `device.type != "cpu"`. What this cannot
show: kernels, streams, graphs, cuDNN, and races with the host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._C import (
    _get_privateuse1_backend_name,
    _only_lift_cpu_tensors,
    _set_only_lift_cpu_tensors,
)
from torch.utils import _foreach_utils as foreach_utils
from torch.utils._foreach_utils import _get_foreach_kernels_supported_devices
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "pretend"
_SUPPORTED = "_get_foreach_kernels_supported_devices"
aten = torch.ops.aten

_READS = {
    "aten._local_scalar_dense.default",
    "aten.equal.default",
    "aten.is_nonzero.default",
    "aten.nonzero.default",
    "aten.masked_select.default",
    "aten.unique_dim.default",
    "aten._unique2.default",
}
"""Operations that wait for the device, because the host or a shape depends on values."""


class PretendedTensor(Tensor):
    """CPU memory that is addressed as the other device's."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> PretendedTensor:
        return Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=device(),
            requires_grad=False,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"PretendedTensor({self.inner!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, requires_grad=self.requires_grad)
        elif self.requires_grad:
            copied.requires_grad_()
        memo[id(self)] = copied
        return copied

    def tolist(self) -> Any:
        # PyTorch refuses this of subclasses
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("a tensor of the pretended device left the `pretended()` block")


class Pretender(TorchDispatchMode):
    """Runs every operation on the memory behind the tensors.

    Attributes:
        reads: how often each operation has read from the device to the host.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    @property
    def num_reads(self) -> int:
        """All reads together."""
        return sum(self.reads.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        is_ours = any(isinstance(tensor, PretendedTensor) for tensor in tensors)
        target = kwargs.get("device")
        if str(func) in ("aten._to_copy.default", "aten.copy_.default"):
            return self._copy(func, args, kwargs, is_ours)
        if target is not None and torch.device(target).type == NAME:
            kwargs["device"] = torch.device("cpu")
            return tree_map(_wrap, func(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs)))
        if not is_ours:
            return func(*args, **kwargs)
        alone = [t for t in tensors if not isinstance(t, PretendedTensor) and t.dim() > 0]
        if alone:
            raise RuntimeError(
                f"{func}: a CPU tensor of shape {tuple(alone[0].shape)} is mixed with tensors of"
                " the other device."
            )
        if str(func) in _READS:
            self.reads[str(func)] += 1
        out = func(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
        wrapped = tree_map(_wrap, out)
        return return_and_correct_aliasing(func, args, kwargs, wrapped)

    def _copy(self, func: Any, args: Any, kwargs: Any, is_ours: bool) -> Any:
        """Move between the devices, which is the one place where both may meet."""
        if func is aten.copy_.default:
            to_host = not isinstance(args[0], PretendedTensor) and is_ours
            if to_host:
                self.reads[str(func)] += 1
            func(*(_unwrap(arg) for arg in args), **kwargs)
            return args[0]
        target = kwargs.pop("device", None)
        stays = target is None
        if is_ours and not stays and torch.device(target).type == "cpu":
            self.reads[str(func)] += 1
        out = func(*tree_map(_unwrap, args), **kwargs)
        on_device = is_ours if stays else torch.device(target).type == NAME
        return _wrap(out) if on_device else out


def device() -> torch.device:
    """Return the pretended device."""
    return torch.device(NAME, 0)


def _wrap(value: Any) -> Any:
    is_plain = isinstance(value, Tensor) and not isinstance(value, PretendedTensor)
    return PretendedTensor(value) if is_plain else value


def _unwrap(value: Any) -> Any:
    return value.inner if isinstance(value, PretendedTensor) else value


class _Generator(torch.Generator):
    """Draws on the CPU, whatever device it is made for, so that both devices draw the same."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        return super().__new__(cls, "cpu")


class _Backend(_DummyBackendModule):
    """What PyTorch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def manual_seed_all(self, seed: int) -> None:
        """Draws come from the CPU's generator."""


def _register() -> None:
    """Tell PyTorch of the device, once per process."""
    if _get_privateuse1_backend_name() != NAME:
        _setup_privateuseone_for_python_backend(NAME, _Backend())


# why: at import, as autograd counts the kinds of devices once, at a process's first backward pass
_register()


@contextmanager
def pretended() -> Iterator[Pretender]:
    """Within the context the device can be used; yields the counter of reads."""
    devices = [*_get_foreach_kernels_supported_devices(), NAME]
    # why: else `torch.tensor(..., device=...)` makes its copy where no mode sees it
    generator = torch.Generator
    torch.Generator = _Generator
    lifted = _only_lift_cpu_tensors()
    _set_only_lift_cpu_tensors(True)
    try:
        with (
            patch.object(foreach_utils, _SUPPORTED, lambda: devices),
            Pretender() as pretender,
        ):
            yield pretender
    finally:
        _set_only_lift_cpu_tensors(lifted)
        torch.Generator = generator
