"""Reads a study back from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from darts_ray.config import StudyConfig
from darts_ray.space import Genotype
from darts_ray.study.folder import StudyFolder


@dataclass(frozen=True)
class Study:
    """A study's files, read: configuration, provenance, record of genotypes and the tables."""

    folder: StudyFolder
    config: StudyConfig
    provenance: dict[str, Any]
    record: dict[str, Any]
    results: pa.Table
    alphas: pa.Table

    @property
    def winner(self) -> Genotype | None:
        """The selected cell; None before the search (or select) stage has ended."""
        raise NotImplementedError


def load_study(folder: str | Path) -> Study:
    """Read the study in a folder (path or URI).

    Raises:
        StudyError: the folder holds no study.
    """
    raise NotImplementedError
