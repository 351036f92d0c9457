"""Reads what others wrote: the original authors' checkpoints."""

from darts_ray.interop.checkpoint import read_checkpoint
from darts_ray.interop.original import load_original

__all__ = ["load_original", "read_checkpoint"]
