"""Reading checkpoint files without running the code they may hold."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from typing import Any

import torch

from darts_ray.errors import CheckpointError


def read_checkpoint(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read a PyTorch checkpoint of plain tensors, on the CPU and with `weights_only=True`.

    Raises:
        CheckpointError: the file is missing or unreadable, or holds pickled objects, as the
            released `ptb_model.pt` does (a whole module); the message says how to convert it.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (pickle.UnpicklingError, AttributeError, ImportError) as error:
        raise CheckpointError(
            f"{path} does not hold plain tensors only, and loading it would run the code inside"
            f" ({str(error).splitlines()[0]}). If you trust the file and it is a whole module,"
            " convert it once where the code that saved it is importable:"
            " torch.save(torch.load(PATH, weights_only=False).state_dict(), NEW_PATH)."
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a PyTorch checkpoint, or is damaged: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(values, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(values).__name__}, not a state dict or a mapping with one."
        )
    return values
