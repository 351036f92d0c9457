"""State dicts in the layouts of the original authors and their successors into our networks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from darts_ray.errors import CheckpointError
from darts_ray.interop import names
from darts_ray.nn import (
    ConvNetwork,
    ConvSupernet,
    ImageNetNetwork,
    RecurrentNetwork,
    RecurrentSupernet,
)

# Under which of its entries a training script's checkpoint holds the network.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")

Network = TypeVar("Network", bound=nn.Module)
Alphas = Tensor | Sequence[Tensor] | Mapping[str, Tensor]

# Where the reference codes' supernets keep running statistics; group 1 exists in ours as well.
_SUPERNET_NORM = re.compile(
    r"(stem|lastact|rnns\.0|cells\.\d+)\."
    r"(?:preprocess[01]\.|_ops\.\d+\._ops\.\d+\.|edges\.\d+<-\d+\.\d+\.|conv_[ab]\.)?"
    r"(?:0|1|bn|op\.\d+)\.(?:running_mean|running_var|num_batches_tracked)"
)


def load_original(
    network: Network, state_dict: Mapping[str, Any], alphas: Alphas | None = None
) -> Network:
    """Fill a network with a state dict of a reference code, in place and strictly.

    Read are the networks of DARTS (github.com/quark0/darts), the supernets of PC-DARTS (into a
    supernet with `PartialChannels`), and NAS-Bench-201's supernets and derived networks (into a
    `ConvSupernet` or `ConvNetwork` of that skeleton).

    Everything is checked before anything is written, so an error leaves the network as it was.
    Values are converted to the network's dtype and device. `module.` prefixes of DataParallel
    and a wrapping `{"state_dict": ...}`, as in the released `imagenet_model.pt`, are removed, and
    so are the names that other scripts give this entry (`model`, `model_state_dict`, ...).
    What the layouts share and where they differ:

    * supernets: the original's running statistics of batch normalisation are accepted and
      ignored, because ours keep none (a deliberate correction, see `RecurrentSupernet`);
    * derived conv networks: running statistics are loaded; `num_batches_tracked`, which
      PyTorch 0.3 did not write, may be missing;
    * language models: `decoder.weight` must be there and equal `encoder.weight`, to which it
      is tied.

    Args:
        network: a supernet or derived network of the size that the state dict is for.
        state_dict: tensors by the original's names.
        alphas: raw alphas of a supernet, which the original's state dicts leave out: the
            matrices in the order normal, reduce, beta_normal, beta_reduce (or the only one), or
            a mapping with the keys of `network.alphas` (`normal`, `beta_normal`, `cell`, ...) or
            the reference code's (`alphas_normal`, `betas_normal`, `arch_parameters`, `weights`).
            Default: those of the state dict where they are stored there, else the network's own
            stay.

    Returns:
        the same network.

    Raises:
        CheckpointError: an entry is missing, surplus or misshapen (the message names it), or
            the network is of no kind that the original has.
    """
    layout = _layout(network)
    given = _unwrap(state_dict)
    if alphas is not None:
        stored = {key for key in given if layout.ties.get(key, key) in layout.alphas}
        given = {key: value for key, value in given.items() if key not in stored}
        given |= layout.name_alphas(alphas)
    _check(layout, given)
    with torch.no_grad():
        for key, target in layout.all_targets().items():
            if key in given:
                target.copy_(given[key])
    return network


@dataclass
class _Layout:
    """Which of our tensors each of the original's entries fills.

    Attributes:
        targets: by name, entries that must be there.
        optional: by name, entries that may be missing.
        alphas: by name, the alpha matrices; they may be missing.
        alpha_names: our names of the alphas, in the order of `alphas`.
        ties: names of entries that repeat another entry.
    """

    targets: dict[str, Tensor]
    optional: dict[str, Tensor] = field(default_factory=dict)
    alphas: dict[str, Tensor] = field(default_factory=dict)
    alpha_names: tuple[str, ...] = ()
    ties: dict[str, str] = field(default_factory=dict)

    def all_targets(self) -> dict[str, Tensor]:
        return self.targets | self.optional | self.alphas

    def required(self) -> list[str]:
        """Return the names that must be there: targets and what repeats them."""
        return [*self.targets, *(key for key, other in self.ties.items() if other in self.targets)]

    def ignores(self, key: str) -> bool:
        """Whether the entry is a running statistic of a supernet's batch normalisation."""
        match = _SUPERNET_NORM.fullmatch(key) if self.alpha_names else None
        return match is not None and any(k.startswith(f"{match[1]}.") for k in self.targets)

    def name_alphas(self, alphas: Alphas) -> dict[str, Tensor]:
        """Return alphas in any accepted form by the names of `alphas`."""
        if not self.alpha_names:
            raise CheckpointError("Alphas were given, but a derived network has none.")
        theirs = list(self.alphas)
        if isinstance(alphas, Tensor):
            alphas = [alphas]
        if not isinstance(alphas, Mapping):
            if len(alphas) != len(theirs):
                raise CheckpointError(
                    f"{len(alphas)} alpha matrices were given; the network has {len(theirs)}"
                    f" ({', '.join(self.alpha_names)})."
                )
            return dict(zip(theirs, alphas, strict=True))
        known = dict(zip(self.alpha_names, theirs, strict=True)) | {name: name for name in theirs}
        unknown = set(alphas) - set(known)
        named = {known[key]: value for key, value in alphas.items() if key in known}
        if unknown or len(named) < len(theirs):
            raise CheckpointError(
                f"Alphas have the keys {sorted(alphas)}; expected {list(self.alpha_names)} or"
                f" {theirs}."
            )
        return named


def _layout(network: nn.Module) -> _Layout:
    if isinstance(network, ConvSupernet):
        theirs = names.conv_alphas(network)
        return _Layout(
            dict(names.conv_supernet(network)),
            alphas={theirs[name]: alpha for name, alpha in network.alphas.items()},
            alpha_names=tuple(network.alphas),
        )
    if isinstance(network, RecurrentSupernet):
        return _Layout(
            dict(names.language_model(network)),
            alphas={"weights": network.alphas["recurrent"]},
            alpha_names=("recurrent",),
            ties={"decoder.weight": "encoder.weight", "rnns.0.weights": "weights"},
        )
    if isinstance(network, RecurrentNetwork):
        ties = {"decoder.weight": "encoder.weight"}
        return _Layout(dict(names.language_model(network)), ties=ties)
    if isinstance(network, ConvNetwork | ImageNetNetwork):
        entries = dict(names.conv_network(network))
        optional = {k: v for k, v in entries.items() if k.endswith("num_batches_tracked")}
        return _Layout({k: v for k, v in entries.items() if k not in optional}, optional)
    raise CheckpointError(
        f"The original code has no counterpart of a {type(network).__name__}; load_original fills"
        " ConvSupernet, ConvNetwork, ImageNetNetwork, RecurrentSupernet and RecurrentNetwork."
    )


def _unwrap(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Remove the wrappers that the original's scripts put around a state dict."""
    if not isinstance(state_dict, Mapping):
        raise CheckpointError(
            f"A state dict is expected, not a {type(state_dict).__name__}; if it is a whole"
            " module, pass module.state_dict()."
        )
    wrappers = (key for key in _WRAPPERS if isinstance(state_dict.get(key), Mapping))
    wrapper = next(wrappers, None)
    entries = dict(state_dict if wrapper is None else state_dict[wrapper])
    if strange := [key for key in entries if not isinstance(key, str)]:
        raise CheckpointError(
            f"The state dict has the entry {strange[0]!r}; its entries must be tensors by name."
        )
    if entries and all(key.startswith("module.") for key in entries):
        entries = {key.removeprefix("module."): value for key, value in entries.items()}
    for key, value in entries.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"Entry {key!r} is a {type(value).__name__}, not a tensor. A state dict may be"
                f" wrapped under one of: {', '.join(_WRAPPERS)}."
            )
    return entries


def _same(value: Tensor, other: Tensor) -> bool:
    """Whether two tensors repeat each other, NaN for NaN."""
    return torch.allclose(value.double(), other.double(), rtol=0, atol=0, equal_nan=True)


def _check(layout: _Layout, given: Mapping[str, Tensor]) -> None:
    known = layout.all_targets()
    problems = [f"missing {key!r}" for key in layout.required() if key not in given]
    for key, value in given.items():
        other = layout.ties.get(key, key)
        if other not in known:
            if not layout.ignores(key):
                problems.append(f"surplus {key!r}")
        elif value.shape != known[other].shape:
            problems.append(
                f"{key!r} has shape {tuple(value.shape)}, the network {tuple(known[other].shape)}"
            )
        elif other not in given:
            problems.append(f"{key!r} without {other!r}, which it should repeat")
        elif not _same(value, given[other]):
            problems.append(f"{key!r} differs from {other!r}, which it should repeat")
    if problems:
        shown = "; ".join(problems[:5])
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(
            f"The state dict does not fit the network: {shown}{more}. Check that both have the"
            " same genotype or space, sizes, number of classes or words, and auxiliary head."
        )
