"""`best.pt2`: the network as a `torch.export` program, for ExecuTorch, AOTInductor and C++."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from darts_ray.errors import ExportError
from darts_ray.export.consumer.contract import ModelMetadata
from darts_ray.export.inference import DeployedImages, RecurrentStep

CONTRACT_FILE = "contract.json"
"""Inside the archive (`extra_files` of `torch.export.load`)."""


def export_program(
    network: nn.Module,
    path: Path,
    *,
    example_size: tuple[int, int, int] | None,
    metadata: ModelMetadata,
    tolerance: float = 1e-4,
) -> float:
    """Write a network as a `torch.export` program, read it back and compare it.

    Images go in and come out as in the ONNX file. Of a language model it is one time step:
    (hidden (1, batch, units), words (batch,)) to (next hidden, log probabilities).

    Args:
        network: left as it was found.
        path: the file, replaced atomically.
        example_size: (channels, height, width) of an image; None: a language model.
        metadata: the contract; also kept in the archive as `contract.json`.
        tolerance: largest absolute difference of an output.

    Returns:
        The largest difference from the network, at another batch size than it was traced with.

    Raises:
        ExportError: torch cannot export it, or what was written differs.
    """
    module, example, other, axes = _prepared(network, example_size, metadata)
    temporary = path.with_name(f".{path.name}")  # torch insists on the name's end
    contract = metadata.to_sidecar(path.name, {}, {})
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, example, dynamic_shapes=axes)
            torch.export.save(program, temporary, extra_files={CONTRACT_FILE: contract})
            loaded: Any = torch.export.load(temporary).module()
            pairs = zip(_outputs(loaded(*other)), _outputs(module(*other)), strict=True)
            largest = max(float((a - b).abs().max()) for a, b in pairs)
        if not largest <= tolerance:
            raise ExportError(
                f"{path}: outputs differ from torch by {largest:.2e}; allowed is {tolerance:.0e}"
                " (export.tolerance)."
            )
        temporary.replace(path)
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError, ValueError) as error:
        raise ExportError(f"torch.export cannot write the network: {str(error)[:500]}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return largest


def _prepared(
    network: nn.Module, example_size: tuple[int, int, int] | None, metadata: ModelMetadata
) -> tuple[nn.Module, tuple[Tensor, ...], tuple[Tensor, ...], Any]:
    """Return the module, two inputs of different batch size, and the dynamic axes."""
    batch = torch.export.Dim("batch")
    if example_size is not None:
        images = DeployedImages(network, metadata)
        example = images.example(example_size)
        other = torch.cat([images.example(example_size), images.example(example_size)[:1]])
        return images, (example,), (other,), {"images": {0: batch}}
    step = RecurrentStep(network)
    inputs = [
        (step.network.init_hidden(size), torch.arange(size, dtype=torch.int64)) for size in (2, 3)
    ]
    return step, inputs[0], inputs[1], {"step_hidden": {1: batch}, "step_words": {0: batch}}


def _outputs(values: Any) -> tuple[Tensor, ...]:
    return values if isinstance(values, tuple) else (values,)
