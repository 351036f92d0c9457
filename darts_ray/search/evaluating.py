"""What is measured on a supernet after an epoch of a search."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from darts_ray.errors import NonFiniteLossError
from darts_ray.nn.supernet import Batch
from darts_ray.search.parts import Progress
from darts_ray.search.spectrum import dominant_eigenvalue, signed_eigenvalue
from darts_ray.search.step.relaxing import relax

if TYPE_CHECKING:
    from darts_ray.search.run import SearchRun


def evaluate(run: SearchRun, progress: Progress) -> dict[str, Any]:
    """Return validation metrics and, every `hessian_every` epochs, the dominant eigenvalue.

    Raises:
        NonFiniteLossError: the validation loss or an alpha is NaN or infinite.
    """
    _check_alphas(run)
    run.supernet.eval()
    # Other batch sizes and no gradients are not worth the minutes of compiling once more;
    # without `compile` the compiler is not even imported, which takes seconds.
    compiled = run.config.compile
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        with torch.no_grad():
            mixing = relax(run.method, run.supernet, "eval", progress)
        metrics: dict[str, Any] = run.batches.evaluate(run.supernet, mixing)
    # why: the loss of a method without alphas does not depend on them; a 0 would pass for flatness
    every = run.config.hessian_every if run.config.method.trains_alphas else 0
    if every and (run.epochs_done + 1) % every == 0:
        batch = next(run.batches.evaluation_batches())
        metrics["dominant_eigenvalue"] = dominant_eigenvalue(
            run.supernet, batch, relax=lambda: relax(run.method, run.supernet, "alpha", progress)
        )
    if not math.isfinite(metrics["validation_loss"]):
        raise NonFiniteLossError(
            f"The validation loss became {metrics['validation_loss']} after epoch"
            f" {run.epochs_done + 1}; lower the learning rate, or continue from the last"
            " checkpoint."
        )
    return metrics


def _check_alphas(run: SearchRun) -> None:
    """Tell alphas that diverged from a wrong configuration, for which `derive` would take them."""
    for name, alphas in run.supernet.alphas.items():
        if not torch.isfinite(alphas).all():
            raise NonFiniteLossError(
                f"The alphas of {name!r} are not finite after epoch {run.epochs_done + 1}; lower"
                " optim.alpha_lr, or continue from the last checkpoint."
            )


def measure_curvature(run: SearchRun, batch: Batch | None, progress: Progress) -> dict[str, float]:
    """Return the signed eigenvalue that an early-stopping rule watches, in training mode."""
    if batch is None:
        return {}
    value = signed_eigenvalue(
        run.supernet,
        batch,
        relax=lambda: relax(run.method, run.supernet, "alpha", progress),
        weight_decay=run.config.optim.alpha_weight_decay,
    )
    if not math.isfinite(value):
        raise NonFiniteLossError(
            f"The alphas' Hessian is not finite after epoch {run.epochs_done + 1}; lower the"
            " learning rate, or continue from the last checkpoint."
        )
    return {"signed_eigenvalue": value}


def describe_cell(run: SearchRun) -> dict[str, Any]:
    """Return the cell of the epoch that has ended, and of conv cells the skips of the first kind.

    Nothing before the end of a method that trains no alphas: what they give is a random cell,
    which the method neither derives nor trains more than any other.
    """
    if not run.config.method.trains_alphas and not run.finished:
        return {}
    genotype = run.genotype()
    cell: dict[str, Any] = {"genotype": genotype.to_json()}
    if not run.config.data.is_text:
        cell["num_skip"] = genotype.num_skip
    return cell
