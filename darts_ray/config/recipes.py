"""The paper's settings for texts and for ImageNet, as defaults; the schema's own are CIFAR-10's.

Which of them apply follows from the data's source and the network's style; what a configuration
gives takes precedence, value by value. A section means the same whether it is given as a mapping
or as a model: of a model, too, only what was given counts, not what its class fills in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from darts_ray.config.base import Model
from darts_ray.config.data import TEXT_SOURCES

TEXT_SEARCH: Mapping[str, Any] = {
    "space": "recurrent",
    "network": {"kind": "recurrent"},
    "batch_size": 256,
    "optim": {
        "weight_lr": 20.0,
        "momentum": 0.0,
        "weight_decay": 5e-7,
        "grad_clip": 0.25,
        "alpha_lr": 3e-3,
        "alpha_betas": (0.9, 0.999),
    },
}
"""Of the search on Penn Treebank; the learning rate is constant."""

TEXT_TRAINING: Mapping[str, Any] = {
    "network": {"kind": "recurrent", "dropout": {"word": 0.1}},
    "epochs": 8000,
    "batch_size": 64,
    "eval_batch_size": 10,
    "test_batch_size": 1,
    "optim": {
        "lr": 20.0,
        "schedule": "constant",
        "momentum": 0.0,
        "weight_decay": 8e-7,
        "grad_clip": 0.25,
        "asgd_patience": 5,
        "stop_patience": 50,
    },
}
"""Of the training on Penn Treebank; it ends when it no longer improves."""

CIFAR_TRAINING: Mapping[str, Any] = {"network": {"kind": "conv"}, "augment": {"cutout": 16}}
"""Of the training on CIFAR-10, where it differs from a section's own defaults."""

IMAGENET_TRAINING: Mapping[str, Any] = {
    "network": {"kind": "conv", "channels": 48, "layers": 14, "drop_path": 0.0},
    "augment": {
        "random_resized_crop": True,
        "horizontal_flip": True,
        "cutout": 0,
        "color_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2},
    },
    "epochs": 250,
    "batch_size": 128,
    "optim": {
        "lr": 0.1,
        "schedule": "exponential",
        "weight_decay": 3e-5,
        "label_smoothing": 0.1,
    },
}
"""Of the transfer to ImageNet in the mobile setting."""

_CONV_SEARCH: Mapping[str, Any] = {"network": {"kind": "conv"}}


def complete_search(values: object) -> object:
    """Return the values of a search with the defaults that its data call for."""
    if not isinstance(values, Mapping):
        return values
    if not _is_text(values):
        return _merge(_CONV_SEARCH, values)
    complete = _merge(TEXT_SEARCH, values)
    if isinstance(complete["optim"], dict):  # the schedule is constant at any rate
        rate = complete["optim"]["weight_lr"]
        complete["optim"] = {"weight_lr_min": rate, **complete["optim"]}
    return complete


def complete_training(values: object) -> object:
    """Return the values of a training with the defaults that data and network style call for."""
    if not isinstance(values, Mapping):
        return values
    if _is_text(values):
        return _merge(TEXT_TRAINING, values)
    network = given_values(values.get("network"))
    style = network.get("style") if isinstance(network, Mapping) else None
    return _merge(IMAGENET_TRAINING if style == "imagenet" else CIFAR_TRAINING, values)


def given_values(section: object) -> object:
    """Return what a section was made from, if it is a model; anything else as it is.

    The tag that tells the members of a union apart is among the values, given or not.
    """
    if not isinstance(section, Model):
        return section
    tag = {"kind"} & set(type(section).model_fields)
    return {
        name: given_values(getattr(section, name))
        for name in type(section).model_fields
        if name in section.model_fields_set | tag
    }


def _merge(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given`, its missing values taken from `defaults`, section by section."""
    merged = dict(given)
    for key, value in defaults.items():
        if key not in given:
            merged[key] = value
        elif isinstance(value, Mapping):
            section = given_values(given[key])
            merged[key] = _merge(value, section) if isinstance(section, Mapping) else section
    return merged


def _is_text(values: Mapping[str, Any]) -> bool:
    data = values.get("data")
    source = data.get("source") if isinstance(data, dict) else getattr(data, "source", None)
    return source in TEXT_SOURCES
